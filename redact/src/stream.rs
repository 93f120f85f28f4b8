//! One log being masked, record by record: what the scan found becomes tokens, and is counted.

use std::ops::Range;
use std::sync::Arc;

use super::block::Block;
use super::explain::{Explained, explained};
use super::key::{Key, KeyId, Keyed, next_token};
use super::pseudonym::{Pseudonyms, Renaming};
use super::rule::Engine;
use super::ruleset::RuleSet;
use super::scan::Scan;
use super::view::View;

/// How much longer a record may become: tokens are longer than short secrets. What would go beyond is masked as one.
pub const MAX_GROWTH: usize = 256 << 10;

/// The memory that is kept from one record to the next.
const KEPT: usize = 128 << 10;

/// Rules, key and choices: what masks the logs of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redactor {
    rules: Arc<RuleSet>,
    keyed: Keyed,
    key_id: KeyId,
    renaming: Option<Renaming>,
}

impl Redactor {
    /// Masks with these rules under this key.
    pub fn new(rules: Arc<RuleSet>, key: Key, pseudonyms: Pseudonyms) -> Self {
        let keyed = Keyed::new(&key);
        Self { renaming: Renaming::new(&keyed, pseudonyms), rules, keyed, key_id: key.id() }
    }

    /// The beginning of a log.
    pub fn stream(&self) -> Stream {
        Stream {
            counts: vec![0; self.rules.rules.len()],
            redactor: self.clone(),
            block: Block::default(),
            scan: Scan::default(),
            view: View::default(),
            masks: Vec::new(),
            out: Vec::new(),
            renamed: Vec::new(),
        }
    }

    /// Under names that the caller knows, such as that of the node itself: they are replaced if hosts are.
    pub fn knowing(mut self, hosts: &[String]) -> Self {
        if let Some(renaming) = &mut self.renaming {
            renaming.know(hosts);
        }
        self
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Under which key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }
}

/// The state of one log: a private key may go over many records.
#[derive(Debug)]
pub struct Stream {
    redactor: Redactor,
    block: Block,
    counts: Vec<u64>,
    scan: Scan,
    view: View,
    masks: Vec<Mask>,
    out: Vec<u8>,
    renamed: Vec<u8>,
}

/// What is to be replaced by one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) range: Range<usize>,
    pub(crate) rule: usize,
    /// Where it stands in the view, if it was found there: the secret as it was meant.
    meant: Option<Range<usize>>,
}

impl Stream {
    /// Masks one record, with or without its line end; it may hold several lines. `whole` is false when its end was cut
    /// off by a limit of length: a secret may have been cut in two there, so the word that touches the cut goes too.
    /// What is given back is the record itself when there was nothing to mask.
    pub fn record<'s>(&'s mut self, bytes: &'s [u8], whole: bool) -> &'s [u8] {
        self.find(bytes, whole);
        let masked = !self.masks.is_empty();
        if masked {
            self.write(bytes);
        }
        let text = if masked { &self.out[..] } else { bytes };
        match &self.redactor.renaming {
            Some(renaming) if renaming.rename(text, &mut self.renamed) => &self.renamed,
            _ => text,
        }
    }

    /// How often each rule masked something so far; rules that did not are left out.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.redactor
            .rules
            .rules
            .iter()
            .zip(&self.counts)
            .filter(|(_, n)| **n > 0)
            .map(|(r, n)| (r.info.id.as_str(), *n))
    }

    /// What would be masked in a text and why, without the secrets themselves. Counts are left as they are.
    pub fn explain(&mut self, bytes: &[u8]) -> Vec<Explained> {
        self.find(bytes, true);
        explained(bytes, &self.redactor.rules, &self.masks, |mask| self.token(bytes, mask))
    }

    /// Finds what is to be masked in a record: sorted, apart from each other, without the tokens that it holds already.
    fn find(&mut self, bytes: &[u8], whole: bool) {
        self.masks.clear();
        let rules = &self.redactor.rules;
        let before = self.block;
        self.scan.run(rules, bytes, &mut self.block);
        self.masks.extend(self.scan.found.drain(..).map(|s| Mask { range: s.range, rule: s.rule, meant: None }));
        if View::differs(bytes) {
            self.view.look(bytes);
            let mut block = before;
            self.scan.run(rules, &self.view.text, &mut block);
            self.block = self.block.or(block);
            let view = &self.view;
            self.masks.extend(self.scan.found.drain(..).map(|s| Mask {
                range: view.origin(bytes, &s.range),
                rule: s.rule,
                meant: Some(s.range),
            }));
        }
        if !whole {
            let end = bytes.len() - line_end(bytes).len();
            let begin = end - bytes[..end].iter().rev().take_while(|b| in_token(**b)).count();
            if begin < end {
                self.masks.push(Mask { range: begin..end, rule: rules.engine(Engine::Cut), meant: None });
            }
        }
        if !self.masks.is_empty() {
            join(&mut self.masks);
            spare_tokens(bytes, &mut self.masks);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        out.shrink_to(KEPT);
        let limit = bytes.len() + MAX_GROWTH;
        let mut done = 0;
        for mask in &self.masks {
            let token = self.token(bytes, mask);
            out.extend_from_slice(&bytes[done..mask.range.start]);
            if out.len() + token.len() + (bytes.len() - mask.range.end) > limit {
                let end = bytes.len() - line_end(bytes).len();
                let rest = Mask {
                    range: mask.range.start..end,
                    rule: self.redactor.rules.engine(Engine::Crowded),
                    meant: None,
                };
                out.extend_from_slice(self.token(bytes, &rest).as_bytes());
                self.counts[rest.rule] += 1;
                done = end;
                break;
            }
            out.extend_from_slice(token.as_bytes());
            self.counts[mask.rule] += 1;
            done = mask.range.end;
        }
        out.extend_from_slice(&bytes[done..]);
        self.out = out;
        self.view.shrink();
    }

    fn token(&self, bytes: &[u8], mask: &Mask) -> String {
        let secret = match &mask.meant {
            Some(meant) => &self.view.text[meant.clone()],
            None => &bytes[mask.range.clone()],
        };
        self.redactor.keyed.token(&self.redactor.rules.rules[mask.rule].info.id, secret)
    }
}

/// Joins masks that overlap. The longer one gives its name and, if it says, what was meant.
fn join(masks: &mut Vec<Mask>) {
    masks.retain(|m| !m.range.is_empty());
    masks.sort_by_key(|m| (m.range.start, usize::MAX - m.range.end));
    let mut joined: Vec<Mask> = Vec::with_capacity(masks.len());
    for mask in masks.drain(..) {
        match joined.last_mut() {
            Some(last) if mask.range.start < last.range.end => {
                if mask.range == last.range {
                    last.meant = last.meant.take().or(mask.meant);
                } else if mask.range.end > last.range.end {
                    last.range.end = mask.range.end;
                    last.meant = None;
                }
            }
            _ => joined.push(mask),
        }
    }
    *masks = joined;
}

/// Takes tokens out of the masks: what was masked before stays as it is, so that masking twice changes nothing.
fn spare_tokens(bytes: &[u8], masks: &mut Vec<Mask>) {
    let mut from = 0;
    let mut next = next_token(bytes, from);
    if next.is_none() {
        return;
    }
    let mut spared = Vec::with_capacity(masks.len());
    for mask in masks.drain(..) {
        let mut range = mask.range.clone();
        while let Some(token) = &next {
            if token.start >= range.end {
                break;
            }
            if token.start > range.start {
                spared.push(Mask { range: range.start..token.start, rule: mask.rule, meant: None });
            }
            range.start = range.start.max(token.end.min(range.end));
            if token.end > range.end {
                break;
            }
            from = token.end;
            next = next_token(bytes, from);
        }
        let meant = mask.meant.filter(|_| range == mask.range);
        spared.push(Mask { range, rule: mask.rule, meant });
    }
    spared.retain(|m| bytes[m.range.clone()].iter().any(|b| !b.is_ascii_whitespace() && !b.is_ascii_punctuation()));
    *masks = spared;
}

fn line_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rev().take(2).take_while(|b| matches!(b, b'\n' | b'\r')).count();
    &bytes[bytes.len() - end..]
}

/// What the word of a secret may be made of.
fn in_token(b: u8) -> bool {
    b > b' '
        && b != 0x7f
        && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b',' | b';' | b'(' | b')' | b'{' | b'}' | b'[' | b']')
}
