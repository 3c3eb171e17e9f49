"""Reads the report of an Autobahn run: lists the cases that failed and counts."""

import json
import sys

GOOD = {"OK", "INFORMATIONAL", "NON-STRICT"}


def main(path):
    with open(path, encoding="utf-8") as file:
        agents = json.load(file)
    cases = [(name, case) for agent in agents.values() for name, case in agent.items()]
    cases.sort(key=lambda named: [int(part) for part in named[0].split(".")])
    failed = [
        (name, case)
        for name, case in cases
        if case["behavior"] not in GOOD or case["behaviorClose"] not in GOOD
    ]
    for name, case in failed:
        print(f"{name}: {case['behavior']}, close: {case['behaviorClose']}")
    print(f"{len(cases) - len(failed)} passed, {len(failed)} failed")
    # A run without a case is no success: the server was not reached.
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
