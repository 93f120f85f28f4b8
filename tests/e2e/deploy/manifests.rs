//! Reads what `deploy/` gives: the rendered manifests, as values. `deploy/check` sees to it that they are as rendered.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Everything that is rendered: the kustomize base and its overlays (to which the chart is equal with the values for each), and
/// the chart with every value another one.
pub(super) const ALL: [&str; 7] =
    ["base", "gpu", "process-detail", "monitoring", "s3", "everything", "chart-with-other-values"];

/// A file below `deploy/`.
pub(super) fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    #[expect(clippy::disallowed_methods, reason = "our own tree, not a node's")]
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// The objects of a file with YAML.
pub(super) fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{e}"))
}

/// All objects of one of [`ALL`]. The file of an overlay has only those that are not as in the base.
pub(super) fn rendered(name: &str) -> Vec<Value> {
    let mut own = objects(&file(&format!("rendered/{name}.yaml")));
    if !["base", "chart-with-other-values"].contains(&name) {
        let which = |object: &Value| {
            let metadata = &object["metadata"];
            (object["kind"].clone(), metadata["namespace"].clone(), metadata["name"].clone())
        };
        let mut base = rendered("base");
        base.retain(|object| own.iter().all(|changed| which(changed) != which(object)));
        own.extend(base);
    }
    own
}

/// Those of a kind.
pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one of this kind and name.
pub(super) fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found: Vec<_> = of_kind(objects, kind).into_iter().filter(|object| self::name(object) == name).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0]
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("{object} has no name"))
}

/// The pods that these objects make: name of what makes them, and their spec.
pub(super) fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    let made = objects.iter().filter(|object| object["spec"]["template"]["spec"].is_object());
    made.map(|object| (name(object), &object["spec"]["template"]["spec"])).collect()
}

/// The keys of a map.
pub(super) fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no map")).keys().map(String::as_str).collect()
}

/// The items of a list; none where there is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
