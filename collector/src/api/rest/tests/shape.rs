//! A value against a schema of `openapi.json`, strictly: what the document does not name must not be there. Only what our schemas
//! use is understood, and what is not understood fails.

use serde_json::Value;

use super::document;

/// Panics with where and why when a value is not of this schema.
pub(super) fn check(schema: &str, value: &Value) {
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert!(schemas[schema].is_object(), "the document has no {schema}");
    if let Err(wrong) = matches(schemas, &schemas[schema], value, schema) {
        panic!("{wrong}");
    }
}

fn matches(all: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/components/schemas/").ok_or_else(|| format!("{at}: {name}"))?;
        return matches(all, &all[name], value, at);
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        let fitting = ways.iter().filter(|way| matches(all, way, value, at).is_ok()).count();
        return if fitting == 1 { Ok(()) } else { Err(format!("{at}: {fitting} ways fit {value}")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{at}: {value} is none of {words:?}")) };
    }
    match (schema["type"].as_str().unwrap_or(""), value) {
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => Ok(()),
        ("integer", Value::Number(number)) => {
            let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
            let fits = number.as_u64().is_some() || number.as_i64().is_some_and(|n| n >= least);
            if fits { Ok(()) } else { Err(format!("{at}: {number} is below {least}")) }
        }
        ("array", Value::Array(items)) => items.iter().try_for_each(|item| matches(all, &schema["items"], item, at)),
        ("object", Value::Object(fields)) => {
            let named = schema["properties"].as_object();
            for required in schema["required"].as_array().into_iter().flatten() {
                let name = required.as_str().unwrap_or("");
                if !fields.contains_key(name) {
                    return Err(format!("{at}: {name} is missing"));
                }
            }
            fields.iter().try_for_each(|(name, field)| {
                let of = named.and_then(|named| named.get(name)).or_else(|| schema.get("additionalProperties"));
                let of = of.ok_or_else(|| format!("{at}: the document does not know {name}"))?;
                matches(all, of, field, &format!("{at}.{name}"))
            })
        }
        (kind, value) => Err(format!("{at}: {value} is no {kind}")),
    }
}
