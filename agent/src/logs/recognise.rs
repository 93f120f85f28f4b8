//! How the lines of one plain file bear their times: found out from its beginning and its end, within what the
//! configuration says. A program that was upgraded writes another form from some line on: then there are two, and lines
//! of both begin records.

use casefile_evidence::logtime::style::{Form, HostZone, Stamper, Style};
use casefile_proto::time::WallTime;

use super::declared::Declared;
use super::history::{Recognised, SAMPLE};
use super::open::LogFile;
use super::text::TextForm;
use super::window::read_up_to;

/// `before`: what the file before it in the same log was found to use.
pub(super) fn recognise(
    sample: &[u8],
    file: &LogFile,
    packed: bool,
    zone: &HostZone,
    declared: &Declared,
    before: Option<Style>,
) -> Result<Recognised<TextForm>, &'static str> {
    let changed = file.facts.modified;
    if file.facts.size == 0 {
        return Ok(Recognised { form: TextForm { style: None, other: None, changed }, first: None });
    }
    let mut buf = vec![0; SAMPLE];
    let end = match sample.len() < SAMPLE {
        // The sample is the whole file.
        true => sample,
        // Of a compressed file the end would cost all of it.
        false if packed => &[],
        false => {
            let at = file.facts.size.saturating_sub(buf.len() as u64);
            // An error is met again, and told, when the file is read.
            let read = read_up_to(&file.file, &mut buf, at).unwrap_or(0);
            let whole = buf[..read].iter().position(|b| *b == b'\n').map_or(read, |feed| feed + 1);
            &buf[whole..read]
        }
    };
    // Its beginning may be one endless line, or the zeros that a truncation left.
    let style = declared.style(sample).or_else(|| declared.style(end));
    // A short file that is nothing but the rest of a record whose begin was rotated away. Zeros are no reason against it: a
    // record may hold some, and those that a crash left are told as damage when they are read.
    let style = style.or(before.filter(|_| sample.len() < SAMPLE));
    let Some(style) = style else {
        let binary = sample.iter().filter(|b| **b == 0).count() * 100 > sample.len();
        return Err(if binary { "is not text" } else { declared.why_none() });
    };
    let other = other_style(style, sample, end, zone, declared);
    let mut stampers = [Some(style), other].map(|style| style.map(|s| Stamper::new(s, zone, changed)));
    let mut stamp = |line: &[u8]| stampers.iter_mut().flatten().find_map(|stamper| stamper.stamp(line));
    let first = sample.split(|b| *b == b'\n').find_map(&mut stamp);
    Ok(Recognised { form: TextForm { style: Some(style), other, changed }, first })
}

/// Whether one style does not read what another one is for.
pub(super) fn differ(style: Style, other: Style) -> bool {
    let reads_both = style.form == Form::Local && other.form == Form::Zoned && style.lead == other.lead;
    style != other && !reads_both
}

/// So many lines in a row of another style are no record that quotes another log.
const ENOUGH: usize = 3;

/// The style that a log went over to, or came from: that of the lines behind its last one of the style that was found,
/// or of those before its first.
fn other_style(style: Style, sample: &[u8], end: &[u8], zone: &HostZone, declared: &Declared) -> Option<Style> {
    let reads = |style: Style, line: &[u8]| Stamper::new(style, zone, WallTime::MAX).stamp(line).is_some();
    let behind = lines(end).filter(|(_, line)| reads(style, line)).last().map_or(0, |(at, line)| at + line.len());
    let before = lines(sample).find(|(_, line)| reads(style, line)).map_or(0, |(at, _)| at);
    let takes_over = |part: &[u8], next_to: Option<&[u8]>| {
        let other = declared.style(part).filter(|other| differ(style, *other))?;
        let enough = lines(part).filter(|(_, line)| reads(other, line)).count() >= ENOUGH;
        (enough || next_to.is_some_and(|line| reads(other, line))).then_some(other)
    };
    let (behind, before) = (&end[behind..], &sample[..before]);
    takes_over(behind, lines(behind).next().map(|(_, line)| line))
        .or_else(|| takes_over(before, lines(before).last().map(|(_, line)| line)))
}

/// Each line that is not empty, and where it begins.
fn lines(part: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let all = part.split(|b| *b == b'\n').scan(0, |at, line| {
        let begin = *at;
        *at += line.len() + 1;
        Some((begin, line))
    });
    all.filter(|(_, line)| !line.is_empty())
}
