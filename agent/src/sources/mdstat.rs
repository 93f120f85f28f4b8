//! Software RAID as `/proc/mdstat` prints it for people: one array over several lines, no two kernels quite alike.
//!
//! Read by `disk`; nothing else is here than the text.

use crate::text::{self, BadLine, Fields, Unparsed, lines};

/// One array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Array<'a> {
    pub(crate) device: &'a str,
    /// `active`, `inactive`, or what is being done to it: `recovering`, `resync`, `check`, `reshape`.
    pub(crate) state: &'static str,
    /// Members that are neither failed nor spare; for arrays with redundancy, those that the array says are up.
    pub(crate) active: i64,
    pub(crate) failed: i64,
    pub(crate) spare: i64,
    /// How many members it should have: not said for RAID 0 and for inactive arrays.
    pub(crate) required: Option<i64>,
    /// Blocks of 1 KiB.
    pub(crate) blocks: Option<i64>,
    /// How many of the blocks are in step, while it is being synchronised.
    pub(crate) synced: Option<i64>,
}

/// The arrays. One of which a line does not parse is left out: its lines correct each other.
pub(crate) fn parse<'a>(text: &'a [u8], bad: &mut Unparsed) -> Vec<Array<'a>> {
    let mut arrays: Vec<Array<'a>> = Vec::new();
    for line in lines(text) {
        let Some(line) = bad.keep(line) else {
            arrays.pop();
            continue;
        };
        let mut fields = Fields::of(line);
        let indented = line.first().is_none_or(|b| b.is_ascii_whitespace());
        let first = fields.next().unwrap_or_default();
        let parsed = match (first, arrays.last_mut()) {
            (b"" | b"Personalities" | b"unused", _) => Ok(()),
            _ if !indented => head(line).map(|array| arrays.push(array)),
            (_, Some(array)) => detail(line, array),
            (_, None) => Err(fields.bad("belongs to no array")),
        };
        if bad.keep(parsed).is_none() && indented {
            arrays.pop();
        }
    }
    arrays
}

/// `md0 : active raid1 sdb1[1] sda1[0](F) sdc1[2](S)`, or `md0 : inactive sda1[0](S)`.
fn head(line: &[u8]) -> Result<Array<'_>, BadLine<'_>> {
    let mut fields = Fields::of(line);
    let device = fields.name()?;
    if fields.word()? != b":" {
        return Err(fields.bad("no `:` after the name"));
    }
    let state = match fields.word()? {
        b"active" => "active",
        b"inactive" => "inactive",
        _ => return Err(fields.bad("neither active nor inactive")),
    };
    let mut array = Array { device, state, active: 0, failed: 0, spare: 0, required: None, blocks: None, synced: None };
    for member in fields.filter(|f| f.contains(&b'[')) {
        match member.last_chunk::<3>() {
            Some(b"(F)") => array.failed += 1,
            Some(b"(S)") => array.spare += 1,
            _ => array.active += 1,
        }
    }
    Ok(array)
}

/// `      1234 blocks super 1.2 [2/1] [U_]`, or `      [==>…]  recovery = 12.6% (37043392/292945152) finish=…`, or a
/// bitmap, of which nothing is recorded.
fn detail<'a>(line: &'a [u8], array: &mut Array<'_>) -> Result<(), BadLine<'a>> {
    let mut fields = Fields::of(line);
    let first = fields.word()?;
    if fields.clone().next() == Some(b"blocks") {
        array.blocks = Some(text::number(first).map_err(|why| fields.bad(why))?);
        if let Some((required, active)) = fields.find_map(|f| pair(f, b'[', b']')) {
            (array.required, array.active) = (Some(required), active);
        }
        return Ok(());
    }
    for (word, state) in
        [(&b"recovery"[..], "recovering"), (b"resync", "resync"), (b"check", "check"), (b"reshape", "reshape")]
    {
        if Fields::of(line).any(|f| f.split(|b| *b == b'=').next() == Some(word)) {
            array.state = state;
            // `resync=DELAYED` and `PENDING` have no numbers.
            array.synced = Fields::of(line).find_map(|f| pair(f, b'(', b')')).map(|(done, _)| done);
        }
    }
    Ok(())
}

/// `[2/1]`, `(37043392/292945152)`.
fn pair(field: &[u8], open: u8, close: u8) -> Option<(i64, i64)> {
    let inside = field.strip_prefix(&[open])?.strip_suffix(&[close])?;
    let slash = inside.iter().position(|b| *b == b'/')?;
    Some((text::number(&inside[..slash]).ok()?, text::number(&inside[slash + 1..]).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_degraded_mirror_that_recovers_is_told() {
        let text = b"Personalities : [raid1] [raid6]
md1 : active raid1 sdc1[2] sda1[0] sdb1[1](F)
      292945152 blocks super 1.2 [2/1] [U_]
      [==>..................]  recovery = 12.6% (37043392/292945152) finish=127.5min speed=33440K/sec
      bitmap: 1/3 pages [4KB], 65536KB chunk

md127 : inactive sdd1[0](S)
      976630488 blocks super 1.2

md2 : active raid1 sde1[0] sdf1[1]
      100 blocks [2/2] [UU]
      \tresync=PENDING

unused devices: <none>
";
        let mut bad = Unparsed::default();
        let got = parse(text, &mut bad);
        assert_eq!(bad.gap("proc/mdstat"), None);
        let array = |device, state, counts: (i64, i64, i64), required, blocks, synced| Array {
            device,
            state,
            active: counts.0,
            failed: counts.1,
            spare: counts.2,
            required,
            blocks: Some(blocks),
            synced,
        };
        assert_eq!(
            got,
            [
                array("md1", "recovering", (1, 1, 0), Some(2), 292_945_152, Some(37_043_392)),
                array("md127", "inactive", (0, 0, 1), None, 976_630_488, None),
                array("md2", "resync", (2, 0, 0), Some(2), 100, None),
            ]
        );
    }

    #[test]
    fn no_array_at_all_is_no_gap() {
        let mut bad = Unparsed::default();
        assert!(parse(b"Personalities : \nunused devices: <none>\n", &mut bad).is_empty());
        assert_eq!(bad.gap("proc/mdstat"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes, &mut Unparsed::default());
            parse(&[b"md0 : active raid1 a[0]\n  ", &bytes[..], b"\n"].concat(), &mut Unparsed::default());
        }
    }
}
