//! What a name means that somebody typed: an id, the beginning of ids, or what others call it.

use super::catalogue::catalogue;
use super::explain::Subject;
use super::set::Signatures;
use super::signature::Signature;

/// How many names are proposed instead of one that is not known.
const PROPOSED: usize = 3;

/// A name is not longer; only so much of a longer one is compared.
const LONGEST: usize = 64;

/// What a name means; none: nobody knows it.
///
/// In this order: the signature of this id; all whose ids begin with it (`mem.oom`); all that somebody calls so (`OOMKilling`, for
/// others may have one name for what are several here); the Xid (`NvidiaXID79Error`). Large and small letters are the same.
pub fn find<'c>(signatures: &'c Signatures, name: &str) -> Vec<Subject<'c>> {
    let name = name.trim();
    let of = |matches: &dyn Fn(&Signature) -> bool| -> Vec<Subject<'c>> {
        signatures.iter().filter(|s| matches(s)).map(subject).collect()
    };
    let below = format!("{}.", name.to_ascii_lowercase());
    let tries: [&dyn Fn(&Signature) -> bool; 3] =
        [&|s| s.id.eq_ignore_ascii_case(name), &|s| s.id.starts_with(&below), &|s| {
            s.aliases.iter().any(|alias| called(alias).eq_ignore_ascii_case(name))
        }];
    tries.into_iter().map(of).find(|found| !found.is_empty()).unwrap_or_else(|| xids(name))
}

/// A signature of one Xid is explained by what the number means.
fn subject(signature: &Signature) -> Subject<'_> {
    match signature.driver.xids.as_slice() {
        [code] => Subject::Xid(*code),
        _ => Subject::Signature(signature),
    }
}

/// The name in `OOMKilling (node-problem-detector)`.
fn called(alias: &str) -> &str {
    alias.split_once(" (").map_or(alias, |(name, _)| name)
}

/// The Xid that somebody has a name of its own for.
fn xids<'c>(name: &str) -> Vec<Subject<'c>> {
    let xid = &catalogue().xid;
    let is_called = |code: u32| {
        let now = xid.entry(code).and_then(|entry| entry.now.as_deref());
        let mut names = xid.opinions(code, now).filter_map(|o| o.alias.as_ref()).filter(|alias| alias.contains("{}"));
        names.any(|alias| alias.replace("{}", &code.to_string()).eq_ignore_ascii_case(name))
    };
    xid.range().filter(|code| is_called(*code)).map(Subject::Xid).collect()
}

/// Names that are like one that is not known, the likest first.
pub fn nearest<'c>(signatures: &'c Signatures, name: &str) -> Vec<&'c str> {
    let name: String = name.trim().chars().take(LONGEST).collect::<String>().to_ascii_lowercase();
    if name.is_empty() {
        return Vec::new();
    }
    let names =
        signatures.iter().flat_map(|s| std::iter::once(s.id.as_str()).chain(s.aliases.iter().map(|a| called(a))));
    let mut all: Vec<_> = names.map(|known| (unlike(&name, &known.to_ascii_lowercase()), known)).collect();
    all.sort_unstable();
    all.dedup();
    // A third of the letters may be wrong.
    let likest = all.into_iter().filter(|(unlike, _)| *unlike <= name.chars().count().div_ceil(3));
    likest.take(PROPOSED).map(|(_, known)| known).collect()
}

/// How unlike two names are: 0 where one is a part of the other, else how many letters differ; of a name with dots also its last parts
/// alone, because people leave out the first ones.
fn unlike(name: &str, known: &str) -> usize {
    if name.len() > 2 && known.contains(name) {
        return 0;
    }
    let ends = known.match_indices('.').map(|(at, _)| known.get(at + 1..).unwrap_or_default());
    std::iter::once(known).chain(ends).map(|end| distance(name, end)).min().unwrap_or(usize::MAX)
}

/// The distance of Levenshtein: letters that must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().take(LONGEST).collect();
    let mut row: Vec<_> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(name: &str) -> Vec<String> {
        let of = |subject| match subject {
            Subject::Signature(s) => s.id.clone(),
            Subject::Xid(code) => format!("xid {code}"),
            Subject::SXid(code) => format!("sxid {code}"),
        };
        find(&catalogue().signatures, name).into_iter().map(of).collect()
    }

    #[test]
    fn a_thing_is_found_by_every_name_that_somebody_has_for_it() {
        assert_eq!(ids("mem.oom.memcg"), ["mem.oom.memcg"]);
        assert_eq!(ids("MEM.OOM.memcg"), ["mem.oom.memcg"]);
        assert!(ids("mem.oom").len() >= 3 && ids("mem.oom").contains(&"mem.oom.system".to_owned()));
        let killing = ids("oomkilling");
        assert!(["mem.oom.system", "mem.oom.memcg"].iter().all(|id| killing.iter().any(|k| k == id)), "{killing:?}");
        assert_eq!(ids("NvidiaXID79Error"), ["xid 79"]);
        assert_eq!(ids("gpu.xid.79.fallen_off_bus"), ["xid 79"]);
        assert_eq!(ids("DCGM_FR_FALLEN_OFF_BUS"), ["xid 79"]);
        assert_eq!(ids("gpu.xid.needs_reset"), ["gpu.xid.needs_reset"]);
        for nothing in ["", "mem.", "mem.oom.mem", "(", "NvidiaXID999Error", "error_{}"] {
            assert_eq!(ids(nothing), [""; 0], "{nothing}");
        }
    }

    #[test]
    fn a_name_with_a_mistake_in_it_is_recognised() {
        let near = |name| nearest(&catalogue().signatures, name);
        assert_eq!(near("mem.oom.mmcg").first(), Some(&"mem.oom.memcg"));
        assert_eq!(near("OMKilling").first(), Some(&"OOMKilling"));
        assert_eq!(near("hung_taks").first(), Some(&"kernel.hung_task"));
        assert!(near("conntrack").contains(&"net.conntrack.full"));
        assert_eq!(near(""), [""; 0]);
        assert_eq!(near("zzzzzzzzzzzzzzzz"), [""; 0]);
    }

    #[test]
    fn the_letters_that_differ_are_counted() {
        for (a, b, n) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("oom", "oom", 0), ("äb", "ab", 1)]
        {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
    }

    proptest! {
        // Each name is compared with all that there are.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_name_ends_it(name in any::<String>()) {
            let _any = (ids(&name), nearest(&catalogue().signatures, &name));
        }
    }
}
