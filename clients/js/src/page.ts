/** The page's reports of network and visibility changes. Outside of a page there are none. */
export function watchPage(heard: { online(): void; doubt(): void }): () => void {
  const page: any = globalThis;
  if (typeof page.addEventListener !== "function") return () => {};
  const { document } = page;
  const visible = () => {
    if (document?.visibilityState !== "hidden") heard.online();
  };
  const online = () => heard.online();
  const offline = () => heard.doubt();
  page.addEventListener("online", online);
  page.addEventListener("offline", offline);
  // Restored from the back/forward cache.
  page.addEventListener("pageshow", visible);
  document?.addEventListener("visibilitychange", visible);
  document?.addEventListener("resume", visible);
  return () => {
    page.removeEventListener("online", online);
    page.removeEventListener("offline", offline);
    page.removeEventListener("pageshow", visible);
    document?.removeEventListener("visibilitychange", visible);
    document?.removeEventListener("resume", visible);
  };
}
