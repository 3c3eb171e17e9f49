"""JSON schemas of Kubernetes' own kinds for kubeconform: python schemas.py SWAGGER OUT

SWAGGER is the OpenAPI document in the Go module k8s.io/cli-runtime (artifacts/openapi/swagger.json), so that
the check needs nothing from outside of the package registries. Unknown fields are refused.
"""

import json
import pathlib
import sys

KINDS = [
    "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "PodDisruptionBudget", "Secret",
    "Service", "StatefulSet",
]
SCALARS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def resolve(node: object, definitions: dict, within: tuple[str, ...] = ()) -> object:
    if isinstance(node, list):
        return [resolve(one, definitions, within) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        if name in SCALARS:
            return SCALARS[name]
        if name in within:
            return {}
        return resolve(definitions[name], definitions, (*within, name))
    resolved = {key: resolve(value, definitions, within) for key, value in node.items()}
    if isinstance(resolved.get("properties"), dict) and resolved.get("type") == "object":
        resolved.setdefault("additionalProperties", False)
    if "format" in resolved:
        del resolved["format"]
    return resolved


def main(swagger: pathlib.Path, out: pathlib.Path) -> None:
    definitions = json.loads(swagger.read_text())["definitions"]
    out.mkdir(parents=True, exist_ok=True)
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] not in KINDS or not name.endswith("." + kind["kind"]):
                continue
            group = kind["group"].split(".")[0]
            version = "-".join(part for part in (group, kind["version"]) if part)
            path = out / f"{kind['kind'].lower()}-{version}.json"
            path.write_text(json.dumps(resolve(definition, definitions, (name,))))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
