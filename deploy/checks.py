"""What deploy/check judges. Each check is a function that yields what is wrong; all of it is told at once.

What the rendered manifests may hold (mounts, capabilities, rights) is judged by tests/e2e/deploy.rs on deploy/rendered/.
"""

import copy
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import yaml

TOOLS = pathlib.Path(sys.argv[1]).resolve()
DEPLOY = pathlib.Path(__file__).resolve().parent
CHART = DEPLOY / "helm/casefile"
RENDERED = DEPLOY / "rendered"
KUBECTL = TOOLS / "layer-v37/kubectl"
# Helm 4, and Helm 3, which most people still have.
HELMS = [TOOLS / "layer-v37/helm", TOOLS / "layer-v32/helm"]
PROMTOOL = TOOLS / "prometheus/usr/bin/promtool"
# The oldest that knows every field that we use, and the newest that there are schemas for.
KUBERNETES = ["1.30", kubernetes_validate.latest_version()]

# Every kustomization, and the values with which the chart gives the same.
SAME = {
    "base": [],
    "overlays/gpu": ["agent.gpu.separate=true"],
    "overlays/process-detail": ["agent.processDetail=true"],
    "overlays/monitoring": ["monitoring.enabled=true"],
    "overlays/s3": ["collector.archiveStore.url=s3://casefile-archives", "collector.archiveStore.region=us-east-1"],
    "overlays/everything": ["agent.gpu.separate=true", "agent.processDetail=true", "monitoring.enabled=true"],
}
# The chart with every value another one than by itself.
OTHER = CHART / "ci/everything-values.yaml"
# Schemas of kinds that Kubernetes itself does not know.
CUSTOM = {kind: json.loads((DEPLOY / f"schemas/{kind.lower()}.json").read_text()) for kind in ["ServiceMonitor", "PrometheusRule"]}


def run(*command, may_fail=False):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        sys.exit(f"{' '.join(str(c) for c in command)}\n{done.stdout}{done.stderr}")
    return done


def kustomized(name):
    return run(KUBECTL, "kustomize", DEPLOY / "kustomize" / name).stdout


def templated(helm, *arguments, may_fail=False):
    return run(helm, "template", "casefile", CHART, "--namespace", "casefile", "--include-crds", *arguments, may_fail=may_fail)


def sets(values):
    return [argument for value in values for argument in ("--set", value)]


def objects(text):
    """The objects of a text by kind, namespace and name; one that is there twice ends it all."""
    found = {}
    for thing in yaml.safe_load_all(text):
        if thing is None:
            continue
        meta = thing["metadata"]
        key = (thing["apiVersion"], thing["kind"], meta.get("namespace"), meta["name"])
        if key in found:
            sys.exit(f"{key} is there twice")
        found[key] = thing
    return found


def differences(left, right, at=""):
    """Where two values differ, with both."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys(), key=str):
            if key not in left or key not in right:
                yield f"{at}.{key}: only in {'the second' if key not in left else 'the first'}"
            else:
                yield from differences(left[key], right[key], f"{at}.{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, pair in enumerate(zip(left, right)):
            yield from differences(*pair, f"{at}[{index}]")
    elif type(left) is not type(right) or left != right:
        yield f"{at}: {left!r} and {right!r}"


def chart_and_base_are_equal():
    for name, values in SAME.items():
        plain = objects(kustomized(name))
        # A chart cannot hold the namespace that it is installed into: Helm wants it to be there before.
        del plain[("v1", "Namespace", None, "casefile")]
        for helm in HELMS:
            chart = objects(templated(helm, *sets(values)).stdout)
            for key in sorted(plain.keys() ^ chart.keys(), key=str):
                yield f"{name}: {key} is only in {'kustomize' if key in plain else 'the chart'}"
            for key in plain.keys() & chart.keys():
                for difference in differences(plain[key], chart[key]):
                    yield f"{name}, {helm.parent.name}: {key}{difference} (kustomize and chart)"


def chart_goes_into_any_namespace():
    text = run(HELMS[0], "template", "other", CHART, "--namespace", "elsewhere", "--set", "monitoring.enabled=true").stdout
    for key, thing in objects(text).items():
        subjects = [subject["namespace"] for subject in thing.get("subjects", [])]
        for namespace in [key[2], *subjects]:
            if namespace not in (None, "elsewhere", "kube-node-lease"):
                yield f"{key[1]} {key[3]}: names the namespace {namespace}"
    if 'agents = ["elsewhere/casefile-agent"]' not in text:
        yield "the collector looks for agents in another namespace"
    if "casefile.svc" in text:
        yield "a host name has the namespace casefile in it"


def documents(text):
    return [document.strip("\n") for document in re.split(r"(?m)^---$", text) if document.strip()]


def beside(base, text):
    """What an overlay's file holds: the objects that are not as in the base. None may take one away: nothing would show that."""
    missing = objects(base).keys() - objects(text).keys()
    if missing:
        sys.exit(f"an overlay takes {sorted(missing, key=str)} away, which its rendered file could not say")
    same = set(documents(base))
    return "\n---\n".join(document for document in documents(text) if document not in same) + "\n"


def rendered(name):
    """The objects of a rendered file, with those of the base that an overlay leaves as they are."""
    own = objects((RENDERED / f"{name}.yaml").read_text())
    if f"overlays/{name}" in SAME:
        return objects((RENDERED / "base.yaml").read_text()) | own
    return own


def rendered_files_are_as_rendered():
    base = kustomized("base")
    texts = {"base": ("kustomize/base", base)}
    for overlay in SAME.keys() - {"base"}:
        texts[pathlib.PurePath(overlay).name] = (f"kustomize/{overlay}, without what is as in base.yaml", beside(base, kustomized(overlay)))
    texts["chart-with-other-values"] = ("helm/casefile", templated(HELMS[0], "--values", OTHER).stdout)
    for name, (source, text) in texts.items():
        path, text = RENDERED / f"{name}.yaml", f"# Written by `deploy/check --write` out of deploy/{source}; not to be edited.\n{text}"
        if "--write" in sys.argv:
            RENDERED.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            yield f"deploy/rendered/{name}.yaml is not what deploy/{source} gives: deploy/check --write, then read the diff"
    for path in RENDERED.glob("*"):
        if path.stem not in texts:
            yield f"deploy/rendered/{path.name}: nothing gives it"


def strict(schema):
    """The same, with nothing in an object beyond its properties: the API server would drop it in silence."""
    schema = copy.deepcopy(schema)

    def close(part):
        if isinstance(part, dict):
            if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
                part.setdefault("additionalProperties", False)
            for inner in part.values():
                close(inner)
        elif isinstance(part, list):
            for inner in part:
                close(inner)

    close(schema)
    # Of these the definition says only that they are there.
    schema["properties"].update(apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"})
    return schema


def every_object_fits_its_schema():
    for path in sorted(RENDERED.glob("*.yaml")):
        for key, thing in objects(path.read_text()).items():
            where = f"deploy/rendered/{path.name}: {key[1]} {key[3]}"
            if key[1] in CUSTOM:
                for error in jsonschema.Draft7Validator(strict(CUSTOM[key[1]])).iter_errors(thing):
                    yield f"{where}: {error.json_path}: {error.message}"
                continue
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(thing, version, strict=True)
                except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                    yield f"{where}: Kubernetes {version}: {error}"


def schemas_can_fail():
    """A check of the checks: each of these mistakes must be found."""
    base = rendered("monitoring")
    for kind, path, value in [
        ("DaemonSet", ["spec", "template", "spec", "securitiContext"], {}),
        ("ServiceMonitor", ["spec", "endpoints", 0, "authorisation"], {}),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "fore"], "5m"),
    ]:
        thing = copy.deepcopy(next(t for key, t in base.items() if key[1] == kind))
        at = thing
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        try:
            if kind in CUSTOM:
                jsonschema.Draft7Validator(strict(CUSTOM[kind])).validate(thing)
            else:
                kubernetes_validate.validate(thing, KUBERNETES[0], strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError):
            continue
        yield f"{kind}: {path[-1]} was not found to be wrong"


def leaves(value, at=()):
    """Every key of the values, with its path; what a user fills in himself is one value."""
    for key, inner in value.items():
        yield (*at, key), inner
        if isinstance(inner, dict) and at + (key,) not in FREE:
            yield from leaves(inner, (*at, key))


# Below these the values file has examples of what Kubernetes defines.
FREE = {("agent", "resources", "requests"), ("agent", "resources", "limits")}
FREE |= {("collector",) + path[1:] for path in FREE} | {("collector", "accountAnnotations")}


def every_value_is_documented_and_checked():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = (CHART / "values.yaml").read_text().splitlines()
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    for path, value in leaves(values):
        name = ".".join(path)
        key = re.compile(rf"^{'  ' * (len(path) - 1)}{re.escape(path[-1])}:")
        documented = [i for i, line in enumerate(lines) if line.strip().startswith(f"# {name}: ")]
        if len(documented) != 1:
            yield f"values.yaml: {len(documented)} comments begin with '# {name}: '"
            continue
        after = next(line for line in lines[documented[0] :] if not line.strip().startswith("#"))
        if not key.match(after):
            yield f"values.yaml: the comment of {name} is not above it"
        part = schema
        for step in path:
            part = part.get("properties", {}).get(step, {})
        if not part:
            yield f"values.schema.json: knows nothing of {name}"
    # Every map that is no one else's to define refuses a key that it does not know.
    maps = [()] + [path for path, value in leaves(values) if isinstance(value, dict) and value]
    for path in maps:
        wrong = ".".join((*path, "nonsense")) + "=1"
        if templated(HELMS[0], "--set", wrong, may_fail=True).returncode == 0:
            yield f"values.schema.json: takes {wrong}"
    for wrong in [
        "agent.processDetail=maybe",
        "image.pullPolicy=Sometimes",
        "image.prefix=registry.example",
        "collector.maxUnavailable=2",
        "collector.storage.size=much",
        "networkPolicy.apiServerPorts={}",
        "collector.httpNames={a:1}",
        "collector.cluster.keepMib=63",
        "collector.cluster.userAudiences={a b}",
        "collector.targets[0].name=db,collector.targets[0].url=tcp://db.shop.svc",
        "collector.targets[0].name=db,collector.targets[0].url=ftp://db.shop.svc:21",
        "collector.targets[0].url=dns://db.shop.svc",
        "collector.archiveStore.url=https://casefile-archives",
        "collector.archiveStore.url=s3://casefile-archives",
        "collector.archiveStore.url=s3://casefile-archives,collector.archiveStore.endpoint=s3.example",
        "collector.archiveStore.url=s3://casefile-archives,collector.archiveStore.endpoint=https://k:secret@s3.example",
        "collector.archiveStore.secret=NotAName",
        "agent.connectivityCa=/etc/ssl/certs/ca.pem",
    ]:
        if templated(HELMS[0], "--set", wrong, may_fail=True).returncode == 0:
            yield f"values.schema.json: takes {wrong}"
    other = yaml.safe_load(OTHER.read_text())
    own = dict(leaves(values))
    for path in own.keys() - dict(leaves(other)).keys():
        yield f"ci/everything-values.yaml: has no {'.'.join(path)}"


def chart_is_in_order():
    for helm in HELMS:
        done = run(helm, "lint", "--strict", CHART, "--values", OTHER, may_fail=True)
        if done.returncode:
            yield f"helm lint: {done.stdout}{done.stderr}"
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.*)"', (DEPLOY.parent / "Cargo.toml").read_text(), re.M)[1]
    if chart["appVersion"] != version or chart["version"] != version:
        yield f"Chart.yaml: is not of version {version}"
    images = {i["name"]: i["image"] for i in yaml.safe_load(chart["annotations"]["artifacthub.io/images"])}
    if images != {name: f"{name}:{version}" for name in ["casefile-agent", "casefile-collector"]}:
        yield f"Chart.yaml: the images are not those of version {version}"
    with tempfile.TemporaryDirectory() as to:
        run(HELMS[0], "package", CHART, "--destination", to)


def alerts_do_as_they_say():
    groups = yaml.safe_load((DEPLOY / "kustomize/components/monitoring/alerts.yaml").read_text())["spec"]
    with tempfile.TemporaryDirectory() as to:
        to = pathlib.Path(to)
        (to / "alerts.yaml").write_text(yaml.safe_dump(groups))
        (to / "alerts-test.yaml").write_text((DEPLOY / "alerts-test.yaml").read_text())
        for command in [["check", "rules", to / "alerts.yaml"], ["test", "rules", to / "alerts-test.yaml"]]:
            done = run(PROMTOOL, *command, may_fail=True)
            if done.returncode:
                yield f"promtool {command[0]} rules: {done.stdout}{done.stderr}"
    tests = yaml.safe_load((DEPLOY / "alerts-test.yaml").read_text())["tests"]
    tried = {t["alertname"]: set() for test in tests for t in test["alert_rule_test"]}
    for test in tests:
        for one in test["alert_rule_test"]:
            tried[one["alertname"]].add(bool(one.get("exp_alerts")))
    for rule in (rule for group in groups["groups"] for rule in group["rules"]):
        if tried.get(rule["alert"]) != {True, False}:
            yield f"alerts-test.yaml: does not show both when {rule['alert']} fires and when it does not"


def dashboard_is_in_order():
    board = json.loads((DEPLOY / "kustomize/components/monitoring/dashboard.json").read_text())
    seen, taken = set(), {}
    for panel in board["panels"]:
        if panel["id"] in seen:
            yield f"dashboard.json: two panels have the id {panel['id']}"
        seen.add(panel["id"])
        at = panel["gridPos"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell in taken or cell[0] >= 24:
                yield f"dashboard.json: {panel['title']} lies over {taken.get(cell, 'the edge')}"
                break
            taken[cell] = panel["title"]
        for target in panel["targets"]:
            # Grafana puts these in; promtool judges what is then there.
            asked = target["expr"].replace("$__rate_interval", "5m").replace("$namespace", ".*")
            rule = {"groups": [{"name": "x", "rules": [{"record": "x", "expr": asked}]}]}
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump(rule, file)
                file.flush()
                done = run(PROMTOOL, "check", "rules", file.name, may_fail=True)
            if done.returncode:
                yield f"dashboard.json: {panel['title']}: {done.stderr}"


def document_installs_what_it_says():
    document = (DEPLOY / "README.md").read_text()
    command = re.search(r"^helm install (casefile) (\S+) --namespace (casefile) --set (\S+)$", document, re.M)
    images = command[4].replace("$registry", "registry.example/ops/").replace("$tag", "0.2.0") if command else ""
    found = re.findall(r"image: \"?(\S+?)\"?$", templated(HELMS[0], "--set", images).stdout, re.M) if command else []
    if sorted(found) != [f"registry.example/ops/casefile-{program}:0.2.0" for program in ["agent", "collector"]]:
        yield f"README.md: its helm install gives the images {found}"
    command = re.search(r'^kubectl kustomize deploy/kustomize/base \| (sed "(.*)") \| kubectl apply -f -$', document, re.M)
    text = kustomized("base")
    if command:
        edit = command[2].replace("${registry}", "registry.example/ops/")
        text = subprocess.run(["sed", edit], input=text, capture_output=True, text=True, check=True).stdout
    found = sorted(re.findall(r"image: (\S+)", text))
    if found != [f"registry.example/ops/casefile-{program}:0.1.0" for program in ["agent", "collector"]]:
        yield f"README.md: its kubectl apply gives the images {found}"
    for name, values in SAME.items():
        row = next((line for line in document.splitlines() if f"| `deploy/kustomize/{name}` |" in line), None)
        if row is None:
            yield f"README.md: no option is {name}"
        elif len(values) == 1 and f"| `{values[0]}` |" not in row:
            yield f"README.md: {name} is not {values[0]} there"


# The rendered files first: the others read them.
CHECKS = [
    rendered_files_are_as_rendered,
    chart_and_base_are_equal,
    chart_goes_into_any_namespace,
    every_object_fits_its_schema,
    schemas_can_fail,
    every_value_is_documented_and_checked,
    chart_is_in_order,
    alerts_do_as_they_say,
    dashboard_is_in_order,
    document_installs_what_it_says,
]

wrong = 0
for check in CHECKS:
    problems = sorted(check())
    wrong += len(problems)
    print(f"{'WRONG' if problems else 'ok':5} {check.__name__.replace('_', ' ')}")
    for problem in problems:
        print(f"      {problem}")
sys.exit(1 if wrong else 0)
