// A line chart over time.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Series {
  name: string;
  color: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  now: string;
  times: number[];
  series: Series[];
  format: (value: number) => string;
}

const cursor: uPlot.Cursor = { sync: { key: "overview" }, drag: { x: false, y: false } };

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** One chart. Its text says for screen readers what the line shows. */
export function Chart(props: Props): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const { series, format } = props;
  const theme = document.documentElement.dataset.theme ?? "";
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const axis = { stroke: () => color("--faint"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false } };
    const options: uPlot.Options = {
      width: Math.max(200, element.clientWidth),
      height: 140,
      cursor,
      legend: { live: true },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [
        { ...axis, size: 26, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toTimeString().slice(0, 5)) },
        { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => format(tick)) },
      ],
      series: [
        { value: (_, at) => (at === null ? "–" : new Date(at * 1000).toTimeString().slice(0, 8)), label: "Time" },
        ...series.map((one) => ({
          label: one.name,
          stroke: () => color(one.color),
          width: 1.5,
          points: { show: false },
          value: (_: uPlot, value: number | null) => (value === null ? "–" : format(value)),
        })),
      ],
    };
    plot.current = new uPlot(options, [[]], element);
    const observer = new ResizeObserver(() => {
      plot.current?.setSize({ width: Math.max(200, element.clientWidth), height: 140 });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
  }, [series.map((one) => one.name).join(), theme]);
  useEffect(() => {
    plot.current?.setData([props.times, ...series.map((one) => one.values)]);
  });
  return (
    <figure class="chart">
      <figcaption>
        <span>{props.title}</span>
        <strong>{props.now}</strong>
      </figcaption>
      <div ref={place} role="img" aria-label={`${props.title} over the last hour; now ${props.now}`} />
    </figure>
  );
}
