//! The schema as a whole: every change shows as a diff of a list, and everything in it is explained.
//!
//! `UPDATE_GOLDEN=1 cargo test -p casefile-proto --test schema` writes the list anew; read the diff before you commit it: a
//! number that disappears must be `reserved`, one that changes its meaning breaks every agent that is out there.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// The files of the package, compiled as the build does it.
fn files() -> Vec<FileDescriptorProto> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let topics = ["common", "agent", "connectivity", "identity", "incident", "node"]
        .map(|topic| root.join(format!("casefile/v1/{topic}.proto")));
    protox::compile(topics, [root]).unwrap().file
}

/// What a field is, as it stands in the `.proto` file.
fn kind(field: &FieldDescriptorProto) -> String {
    let word = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches(".casefile.v1.").to_owned(),
        other => other.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {word}"),
        _ if field.proto3_optional() => format!("optional {word}"),
        _ => word,
    }
}

fn message_lines(message: &DescriptorProto, out: &mut String) {
    for field in &message.field {
        let oneof = match field.oneof_index {
            Some(i) if !field.proto3_optional() => {
                format!(" oneof {}", message.oneof_decl[usize::try_from(i).unwrap()].name())
            }
            _ => String::new(),
        };
        writeln!(out, "message {}.{} = {}: {}{oneof}", message.name(), field.name(), field.number(), kind(field))
            .unwrap();
    }
    if message.field.is_empty() {
        writeln!(out, "message {} {{}}", message.name()).unwrap();
    }
    for range in &message.reserved_range {
        writeln!(out, "message {} reserved {}..{}", message.name(), range.start(), range.end()).unwrap();
    }
}

fn enum_lines(of: &EnumDescriptorProto, out: &mut String) {
    for value in &of.value {
        writeln!(out, "enum {}.{} = {}", of.name(), value.name(), value.number()).unwrap();
    }
}

#[test]
fn every_field_has_the_number_and_type_that_it_always_had() {
    let mut list = String::new();
    for file in files() {
        writeln!(list, "# {}", file.name().rsplit('/').next().unwrap()).unwrap();
        for service in &file.service {
            for m in &service.method {
                let arrow = |streams: bool, of: &str| {
                    let of = of.trim_start_matches(".casefile.v1.");
                    if streams { format!("stream {of}") } else { of.to_owned() }
                };
                let (up, down) =
                    (arrow(m.client_streaming(), m.input_type()), arrow(m.server_streaming(), m.output_type()));
                writeln!(list, "rpc {}.{}: {up} -> {down}", service.name(), m.name()).unwrap();
            }
        }
        file.enum_type.iter().for_each(|e| enum_lines(e, &mut list));
        file.message_type.iter().for_each(|m| message_lines(m, &mut list));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fields.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &list).unwrap();
    }
    let expected = std::fs::read(&golden).unwrap_or_default();
    let expected = String::from_utf8(expected).unwrap();
    let (was, is): (BTreeSet<&str>, BTreeSet<&str>) = (expected.lines().collect(), list.lines().collect());
    assert!(
        expected == list,
        "the schema changed; UPDATE_GOLDEN=1 takes it over\ngone: {:#?}\nnew: {:#?}",
        was.difference(&is).collect::<Vec<_>>(),
        is.difference(&was).collect::<Vec<_>>()
    );
}

#[test]
fn everything_in_the_schema_has_a_comment() {
    let mut bare = Vec::new();
    for file in files() {
        let info = file.source_code_info.as_ref().expect("protox keeps source info");
        let explained: BTreeSet<&[i32]> = info
            .location
            .iter()
            .filter(|l| l.leading_comments.as_ref().is_some_and(|c| !c.trim().is_empty()))
            .map(|l| l.path.as_slice())
            .collect();
        let mut need = |path: &[i32], what: String| {
            if !explained.contains(path) {
                bare.push(format!("{}: {what}", file.name()));
            }
        };
        // The numbers of the fields of FileDescriptorProto, DescriptorProto, … that lead there (descriptor.proto).
        let at = |i: usize| i32::try_from(i).unwrap();
        for (i, message) in file.message_type.iter().enumerate() {
            need(&[4, at(i)], format!("message {}", message.name()));
            for (j, field) in message.field.iter().enumerate() {
                need(&[4, at(i), 2, at(j)], format!("field {}.{}", message.name(), field.name()));
            }
            assert!(message.nested_type.is_empty() && message.enum_type.is_empty(), "{}: keep it flat", message.name());
        }
        for (i, e) in file.enum_type.iter().enumerate() {
            need(&[5, at(i)], format!("enum {}", e.name()));
            for (j, value) in e.value.iter().enumerate() {
                need(&[5, at(i), 2, at(j)], format!("value {}", value.name()));
            }
        }
        for (i, service) in file.service.iter().enumerate() {
            need(&[6, at(i)], format!("service {}", service.name()));
            for (j, rpc) in service.method.iter().enumerate() {
                need(&[6, at(i), 2, at(j)], format!("rpc {}.{}", service.name(), rpc.name()));
            }
        }
    }
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
}

#[test]
fn enums_of_the_wire_and_of_the_domain_name_the_same_things() {
    use casefile_proto::{coverage, gap, incident, item};
    let values = |name: &str| -> Vec<String> {
        let files = files();
        let found = files.iter().flat_map(|f| &f.enum_type).find(|e| e.name() == name).unwrap();
        let prefix = found.value[0].name().trim_end_matches("UNSPECIFIED").to_owned();
        assert_eq!(
            found.value.iter().map(|v| v.number()).collect::<Vec<_>>(),
            (0..).take(found.value.len()).collect::<Vec<i32>>()
        );
        found.value[1..].iter().map(|v| v.name().trim_start_matches(&prefix).to_owned()).collect()
    };
    fn words<T: std::fmt::Debug>(all: &[T]) -> Vec<String> {
        let word = |v: &T| {
            let text = format!("{v:?}");
            let mut out = String::new();
            for (i, c) in text.chars().enumerate() {
                if i > 0 && c.is_ascii_uppercase() {
                    out.push('_');
                }
                out.push(c.to_ascii_uppercase());
            }
            out
        };
        all.iter().map(word).collect()
    }
    assert_eq!(values("GapReason"), words(&gap::GapReason::ALL));
    assert_eq!(values("NodeState"), words(&coverage::NodeState::ALL));
    assert_eq!(values("SourceKind"), words(&coverage::SourceKind::ALL));
    assert_eq!(values("ItemKind"), words(&item::ItemKind::ALL));
    assert_eq!(values("Severity"), words(&incident::Severity::ALL));
    assert_eq!(values("Trigger"), words(&incident::Trigger::ALL));
    assert_eq!(values("IncidentState"), words(&incident::IncidentState::ALL));
    assert_eq!(values("ArchiveWhereabouts"), words(&incident::Whereabouts::ALL));
    assert_eq!(values("NodeProgressState"), words(&incident::NodePhase::ALL));
}
