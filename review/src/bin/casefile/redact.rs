//! `casefile redact`: what the agents' rules do to a text, before an operator trusts them with a cluster's.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use casefile_redact::{Explained, Key, Pseudonyms, Redactor, RuleSet};
use casefile_review::display::safe;

use crate::args::{Format, Pseudonym};
use crate::{Ended, output};

/// A longer line comes in pieces, as it does on a node.
const MAX_LINE: u64 = 1 << 20;

/// A file of rules larger than this is none.
const MAX_RULES: u64 = 1 << 20;

/// Masks standard input to standard output; with `explain` says instead what would be masked, and never shows it.
pub(crate) fn run(explain: bool, rules: &[PathBuf], pseudonyms: &[Pseudonym], format: Format) -> Result<Ended> {
    let rules = Arc::new(load(rules)?);
    let among = |what| pseudonyms.contains(&what);
    let pseudonyms = Pseudonyms {
        addresses: among(Pseudonym::Addresses),
        hosts: among(Pseudonym::Hosts),
        users: among(Pseudonym::Users),
    };
    // Nobody else has it: tokens of two runs cannot be compared, nor tried out.
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut key)).context("make a key")?;
    let redactor = Redactor::new(rules, Key::new(key), pseudonyms);
    if explain { explained(&redactor, format) } else { masked(&redactor) }
}

/// The rules that every agent has.
pub(crate) fn list(rules: &[PathBuf], format: Format) -> Result<Ended> {
    let rules = load(rules)?;
    let all: Vec<_> = rules.rules().collect();
    output::list(format, &["RULE", "WHAT IT MASKS"], &all, |rule| vec![safe(&rule.id), safe(&rule.about)])?;
    Ok(Ended::Done)
}

fn load(files: &[PathBuf]) -> Result<RuleSet> {
    let texts: Vec<_> =
        files.iter().map(|file| Ok((file.display().to_string(), read(file)?))).collect::<Result<_>>()?;
    match RuleSet::with(&texts) {
        Ok(rules) => Ok(rules),
        Err(problems) => bail!("the rules cannot be used:\n  {}", problems.join("\n  ")),
    }
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let open = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
    open.take(MAX_RULES + 1).read_to_string(&mut text).with_context(|| format!("read {}", file.display()))?;
    if text.len() as u64 > MAX_RULES {
        bail!("{} is larger than 1 MiB", file.display());
    }
    Ok(text)
}

/// Calls `each` with every line of standard input, and whether it ends where it ends.
fn lines(mut each: impl FnMut(&[u8], bool) -> Result<()>) -> Result<()> {
    let (mut input, mut line) = (std::io::stdin().lock(), Vec::new());
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).context("read standard input")?;
        if read == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n") || (read as u64) < MAX_LINE;
        each(&line, whole)?;
    }
}

fn masked(redactor: &Redactor) -> Result<Ended> {
    let mut stream = redactor.stream();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    lines(|line, whole| out.write_all(stream.record(line, whole)).context(output::STDOUT))?;
    out.flush().context(output::STDOUT)?;
    drop(out);
    let total: u64 = stream.counts().map(|(_, count)| count).sum();
    let rules: Vec<_> = stream.counts().map(|(rule, count)| format!("{count} {rule}")).collect();
    let by_rule = if rules.is_empty() { String::new() } else { format!(": {}", safe(&rules.join(", "))) };
    output::talk!("{total} masked{by_rule}");
    Ok(Ended::Done)
}

fn explained(redactor: &Redactor, format: Format) -> Result<Ended> {
    let mut stream = redactor.stream();
    let (mut number, mut hits) = (0, 0_u64);
    let mut out = output::Stream::new(format);
    lines(|line, _| {
        number += 1;
        for hit in stream.explain(line) {
            hits += 1;
            let hit = Explained { line: number, ..hit };
            out.push(&hit, || {
                let Explained { column, length, rule, about, token, .. } = &hit;
                let (rule, about) = (safe(rule), safe(about));
                format!("line {number}, column {column}: {length} bytes become {token}\n    {rule}: {about}")
            })?;
        }
        Ok(())
    })?;
    out.finish()?;
    output::talk!("{hits} places in {number} lines would be masked");
    Ok(Ended::Done)
}
