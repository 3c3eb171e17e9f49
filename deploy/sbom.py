"""The bill of materials of the program, in CycloneDX 1.6: sbom.py TRIPLE

Lists the crates that are linked into `tidings` for this target, from Cargo.lock, with their checksums and licences.
"""

import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def linked(metadata: dict) -> list[str]:
    """The ids of the crates that the program is made of: normal dependencies, and theirs."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, waiting = [], [metadata["resolve"]["root"]]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.append(one)
        for dependency in nodes[one]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return found


def main(triple: str) -> None:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", triple]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    packages = {one["id"]: one for one in metadata["packages"]}
    components = []
    for one in sorted(linked(metadata)[1:], key=lambda id_: (packages[id_]["name"], packages[id_]["version"])):
        package = packages[one]
        name, version = package["name"], package["version"]
        component = {
            "type": "library",
            "bom-ref": f"pkg:cargo/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:cargo/{name}@{version}",
        }
        if package["license"]:
            component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if checksum := sums.get((name, version)):
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(component)
    root = packages[metadata["resolve"]["root"]]
    identity = f"{root['name']}@{root['version']} {triple} {json.dumps(components)}"
    json.dump({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, identity)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:cargo/{root['name']}@{root['version']}",
                "name": root["name"],
                "version": root["version"],
                "licenses": [{"expression": root["license"]}],
            },
        },
        "components": components,
    }, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(sys.argv[1])
