//! What the heads of the built-in files promise, and their samples, as tests.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use regex::Regex;

use super::catalogue::{Source, catalogue};
use super::logged::Stream;
use super::pack;
use super::record::{self, Lines};
use super::set::Signatures;

fn all() -> &'static Signatures {
    &catalogue().signatures
}

#[test]
fn every_sample_is_recognised_as_what_it_is_and_with_its_parts() {
    let problems: Vec<_> = all().iter().flat_map(|s| all().samples(s)).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_id_is_there_once_and_every_name_of_another_is_one() {
    let problems = all().names();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn whoever_says_something_of_a_signature_is_named_with_a_day_and_a_place() {
    for signature in all().iter() {
        for judgement in &signature.opinions {
            let Source { who, as_of, source } = &judgement.by;
            let ours = who.starts_with("Casefile");
            let place = source.starts_with("https://") || (ours && source == "our own reading of the record");
            assert!(place && as_of.starts_with("202"), "{}: {judgement:?}", signature.id);
        }
        let first = signature.opinions.first().is_none_or(|j| j.by.who.starts_with("Casefile"));
        assert!(first, "{}: our own opinion comes first", signature.id);
        let others = signature.opinions.iter().skip(1);
        let said = others.clone().all(|j| j.says.is_some() && !j.by.who.starts_with("Casefile"));
        let once: BTreeSet<_> = others.clone().map(|j| &j.by.who).collect();
        assert!(said && once.len() == others.count(), "{}: one says one thing, in words", signature.id);
    }
}

/// What is to be looked at must be there: the names of metrics are compared with the agent's sources, as text.
#[test]
fn every_metric_that_a_signature_names_is_one_that_an_agent_reads() {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/sources")];
    let mut sources = String::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                sources += &String::from_utf8(std::fs::read(path).unwrap()).unwrap();
            }
        }
    }
    let metric = Regex::new(r"\b(?:node|casefile)_[A-Za-z_]+|\bDCGM_FI_[A-Z_]+").unwrap();
    let mut found = 0;
    for signature in all().iter() {
        for name in signature.look_at.iter().flat_map(|text| metric.find_iter(text)) {
            found += 1;
            assert!(sources.contains(&format!("\"{}\"", name.as_str())), "{}: {}", signature.id, name.as_str());
        }
    }
    assert!(found > 15, "{found}");
}

#[test]
fn every_group_of_an_expression_is_found_in_a_sample() {
    for signature in all().iter() {
        let found: BTreeSet<_> =
            signature.positive.iter().flat_map(|s| &s.parts).flatten().map(|(name, _)| name.as_str()).collect();
        for pattern in &signature.patterns {
            let regex = pack::compile(pattern).unwrap();
            for group in regex.capture_names().flatten() {
                assert!(found.contains(group), "{}: no sample shows {group}", signature.id);
            }
        }
    }
}

#[test]
fn every_expression_is_the_first_one_that_recognises_a_sample() {
    for signature in all().iter() {
        let each: Vec<_> = signature.patterns.iter().map(|p| pack::compile(p).unwrap()).collect();
        let first = |line: &str| each.iter().position(|regex| regex.is_match(line));
        let needed: BTreeSet<_> = signature.positive.iter().filter_map(|s| first(&s.line)).collect();
        for (n, pattern) in signature.patterns.iter().enumerate() {
            assert!(needed.contains(&n), "{}: no sample needs {pattern}", signature.id);
        }
    }
}

#[test]
fn every_positive_sample_behind_other_words_is_recognised_no_more() {
    let mut taken = Vec::new();
    for signature in all().iter() {
        // Some records begin with the name of a process, and a process may be called as it likes: up to 15 bytes.
        let by_name = signature.patterns.iter().any(|p| p.contains("(?P<process>.{1,15})"));
        let stream = signature.logs[0].stream();
        for sample in &signature.positive {
            for before in ["the trainer said: ", "[gpu-health] XID: ", "\"", "> ", "kernel: ", " "] {
                let quoted = format!("{before}{}", sample.line);
                let may_be_a_name = by_name && before.len() < 10;
                if !may_be_a_name && record::of_text(all(), &quoted, stream).is_some() {
                    taken.push(quoted);
                }
            }
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
}

/// What prints a record is no kernel, and the log of a pod is none of the kernel's.
#[test]
fn a_record_that_a_program_prints_is_not_recognised() {
    let mut taken = Vec::new();
    for sample in all().iter().flat_map(|s| &s.positive) {
        let line = sample.line.lines().next().unwrap_or_default();
        for before in [
            "Nov 23 03:11:42 gpu-17 train[77]: ",
            "2026-11-23T03:11:42.000001Z gpu-17 train.service <6> train[77]: ",
            "2026-11-23T03:11:42.000001Z gpu-17 shop/api-0/main ",
            "2026-11-23T03:11:42.000001Z gpu-17 shop/api-0/main <3> kubelet[1]: ",
            "2026-11-23T03:11:42.000001Z stderr F ",
        ] {
            let quoted = format!("{before}{line}");
            taken.extend(Lines::default().line(&quoted).map(|_| quoted));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
}

const KILLS: &str = "\
[ 6860.814103] yes invoked oom-killer: gfp_mask=0x500cc2(GFP_HIGHUSER|__GFP_ACCOUNT), order=0, oom_score_adj=1
[ 6860.814122] CPU: 1 UID: 0 PID: 11584 Comm: yes Not tainted 6.18.44-fc-v669 #1 PREEMPT(none) 
[ 6860.814149] Call Trace:
[ 6860.814440]  <TASK>
[ 6860.814915]  mem_cgroup_out_of_memory+0xc0/0x110
[ 6860.815601] memory: usage 32768kB, limit 32768kB, failcnt 121
[ 6860.815624] Memory cgroup stats for /kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85:
[ 6860.815967] Tasks state (memory values in pages):
[ 6860.815968] [  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[ 6860.815971] [  11092]     0 11092      247      163        0      163         0    40960        0             1 pause
[ 6860.816003] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=1b2d120711ff0c773bacb6a264c1a95d31ac9b9c53d8c230844d4a366399e8fb,mems_allowed=0,oom_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85,task_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85/1b2d120711ff0c773bacb6a264c1a95d31ac9b9c53d8c230844d4a366399e8fb,task=sh,pid=11293,uid=0
[ 6860.816034] Memory cgroup out of memory: Killed process 11293 (sh) total-vm:57568kB, anon-rss:31872kB, file-rss:1584kB, shmem-rss:0kB, UID:0 pgtables:112kB oom_score_adj:1
[ 6865.162750] yes invoked oom-killer: gfp_mask=0x500cc2(GFP_HIGHUSER|__GFP_ACCOUNT), order=0, oom_score_adj=1
[ 6865.162760] CPU: 1 UID: 0 PID: 11815 Comm: yes Not tainted 6.18.44-fc-v669 #1 PREEMPT(none) 
[ 6865.162764] Call Trace:
[ 6865.162767]  <TASK>
[ 6865.162805]  mem_cgroup_out_of_memory+0xc0/0x110
[ 6865.163104] memory: usage 32768kB, limit 32768kB, failcnt 405
[ 6865.163117] Memory cgroup stats for /kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85:
[ 6865.163216] Tasks state (memory values in pages):
[ 6865.163217] [  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[ 6865.163220] [  11092]     0 11092      247      163        0      163         0    40960        0             1 pause
[ 6865.163302] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=e46df899776dae5cd7d0c4353ff9ddc846e2675d64285767f9631a31eed8f2a2,mems_allowed=0,oom_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85,task_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85/e46df899776dae5cd7d0c4353ff9ddc846e2675d64285767f9631a31eed8f2a2,task=sh,pid=11680,uid=0
[ 6865.163333] Memory cgroup out of memory: Killed process 11680 (sh) total-vm:57568kB, anon-rss:31744kB, file-rss:1584kB, shmem-rss:0kB, UID:0 pgtables:108kB oom_score_adj:1
";

/// The records of two kills by the limit of a pod, of a cluster that we ran (Linux 6.18), among others of the same second.
#[test]
fn what_a_real_kernel_said_of_two_kills_is_recognised_and_nothing_else() {
    let mut lines = Lines::default();
    let found: Vec<_> = KILLS.lines().filter_map(|line| lines.line(line)).map(|r| r.signature.id.as_str()).collect();
    let one = ["mem.oom.invoked", "mem.oom.memcg", "mem.oom.memcg"];
    assert_eq!(found, [one, one].concat());
}

proptest! {
    #[test]
    fn no_bytes_end_it(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut known = Lines::default();
        for line in &lines {
            let _any = known.line(&String::from_utf8_lossy(line));
        }
    }

    /// Records as they are, cut and with other bytes in them: whatever is found in one is a part of it.
    #[test]
    fn no_damaged_record_ends_it(
        which in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let samples: Vec<_> = all().iter().flat_map(|s| &s.positive).collect();
        let mut damaged = samples[which.index(samples.len())].line.clone().into_bytes();
        let at = cut.index(damaged.len());
        damaged.splice(at.., bytes.iter().copied().chain(damaged[at..].to_vec()));
        let text = String::from_utf8_lossy(&damaged).into_owned();
        for stream in [Stream::Kernel, Stream::Journal("kubelet"), Stream::Unknown] {
            if let Some(found) = record::of_text(all(), &text, stream) {
                prop_assert!(found.parts.values().all(|part| text.contains(part)), "{found:?}");
            }
        }
    }
}

/// What a kernel says when all is well.
#[test]
fn nothing_of_an_ordinary_log_is_known() {
    let mut lines = Lines::default();
    let known: Vec<_> = include_str!("ordinary.log").lines().filter_map(|line| lines.line(line)).collect();
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn every_code_has_one_entry_in_order_and_a_sentence() {
    let catalogue = catalogue();
    let codes: Vec<_> = catalogue.xid.xid.iter().map(|x| x.code).collect();
    let unused: Vec<_> = catalogue.xid.unused.iter().map(|x| x.code).collect();
    assert!(codes.is_sorted() && unused.is_sorted());
    let all: BTreeSet<_> = codes.iter().chain(&unused).collect();
    assert_eq!(all.len(), codes.len() + unused.len(), "a code is there twice");
    assert_eq!(catalogue.xid.range(), 1..=176);
    assert_eq!(all.len(), 176, "no code of the range is left out");
    for entry in &catalogue.xid.xid {
        assert!(entry.meaning.ends_with('.') && entry.meaning.len() > 20, "{}", entry.code);
        assert!(
            entry.mnemonic.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_ /".contains(c)),
            "{}",
            entry.code
        );
        let source = entry.source.as_ref().is_none_or(|s| catalogue.xid.sources.contains_key(s));
        assert!(source, "{}: no such source", entry.code);
    }
    let sxids: BTreeSet<_> = catalogue.sxid.sxid.iter().map(|x| x.code).collect();
    assert_eq!(sxids.len(), catalogue.sxid.sxid.len(), "a code is there twice");
    assert!(sxids.iter().all(|code| catalogue.sxid.entry(*code).is_some()), "a class is missing");
}

#[test]
fn every_word_of_nvidia_is_explained_and_every_opinion_is_about_something() {
    let xid = &catalogue().xid;
    let mut used = BTreeSet::new();
    for word in xid.xid.iter().flat_map(|x| [&x.now, &x.then]).flatten() {
        assert!(xid.action(word).is_some(), "{word} is not explained");
        used.insert(word);
    }
    assert_eq!(used.len(), xid.actions.len(), "an action that nothing asks for, or one that is there twice");
    for opinion in &xid.opinions {
        assert!(
            opinion.codes.iter().all(|code| xid.entry(*code).is_some() || xid.unused(*code).is_some()),
            "{opinion:?}"
        );
        assert!(opinion.actions.iter().all(|word| xid.action(word).is_some()), "{opinion:?}");
        assert!(opinion.otherwise || !(opinion.codes.is_empty() && opinion.actions.is_empty()), "{opinion:?}");
        assert!(opinion.source.starts_with("https://"), "{opinion:?}");
    }
    // One says one thing of a code.
    for entry in &xid.xid {
        let who: Vec<_> = xid.opinions(entry.code, entry.now.as_deref()).map(|o| &o.who).collect();
        let once: BTreeSet<_> = who.iter().collect();
        assert_eq!(once.len(), who.len(), "{}", entry.code);
    }
}

#[test]
fn what_the_operators_own_lists_say_is_what_is_written_here() {
    // EKS's list as it stands in its source, and gpud's three best known disagreements with NVIDIA.
    let critical = [46, 48, 54, 62, 63, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 142, 143, 151, 155, 156, 158];
    let xid = &catalogue().xid;
    for entry in &xid.xid {
        let eks = xid.opinions(entry.code, entry.now.as_deref()).find(|o| o.who.starts_with("EKS")).unwrap();
        assert_eq!(critical.contains(&entry.code), eks.alias.as_deref() == Some("NvidiaXID{}Error"), "{}", entry.code);
    }
    for code in [63, 94] {
        let gpud = xid.opinions(code, None).find(|o| o.who == "gpud").unwrap();
        assert!(gpud.says.starts_with("Fatal"), "{code}");
    }
}
