//! Domain values of every kind, within their limits, for property tests.

pub(crate) mod connectivity;
pub(crate) mod identity;

use std::time::Duration;

use casefile_proto::cluster::{ClusterCoverage, KindCoverage};
use casefile_proto::coverage::{
    Amendment, ClosedGap, Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, Redaction, SourceCoverage, SourceKind,
};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq, IncidentId, ItemNumber, NodeName, RequestId};
use casefile_proto::incident::{
    ArchivePiece, DownloadAsk, IncidentAsk, IncidentDetail, IncidentPage, IncidentState, IncidentSummary, IncidentView,
    ListAsk, NodePhase, NodeProgress, OpenAsk, Resource, SealedArchive, Severity, SourceProgress, Trigger, Whereabouts,
};
use casefile_proto::item::{Digest, EntryPath, ItemHead, ItemKind, ItemTail};
use casefile_proto::node::{Link, NodeList, NodeStatus};
use casefile_proto::scope::{Chosen, ClusterSelection, Scope, Selection};
use casefile_proto::session::{
    Buffer, ClockAnswer, Collectable, CollectionAsk, CollectionDone, CollectionProgress, Ends, FrameBatch, FromAgent,
    Hello, MAX_PAYLOAD, MAX_WINDOW_BATCHES, Piece, ProbeToken, RedactionKey, RunId, SessionToken, ToAgent,
    UploadAnswer, UploadBegin, UploadPart, Welcome,
};
use casefile_proto::time::{BootTime, ClockOffset, Stamp, WallTime, Window};
use casefile_proto::units::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn quantity() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..1000u64, 0..=1u64 << 56]
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{1,20}"
}

fn wall() -> impl Strategy<Value = WallTime> {
    any::<i64>().prop_map(WallTime::from_nanos)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (wall(), any::<u64>()).prop_map(|(wall, boot)| Stamp { wall, boot: BootTime::from_nanos(boot) })
}

pub(crate) fn window() -> impl Strategy<Value = Window> {
    (any::<i64>(), any::<i64>()).prop_filter_map("empty", |(a, b)| {
        Window::new(WallTime::from_nanos(a.min(b)), WallTime::from_nanos(a.max(b))).ok()
    })
}

fn covered() -> impl Strategy<Value = Vec<Window>> {
    vec(any::<i64>(), 0..8).prop_map(|mut ends| {
        ends.sort_unstable();
        ends.dedup();
        let pairs = ends.chunks_exact(2);
        pairs.map(|p| Window::new(WallTime::from_nanos(p[0]), WallTime::from_nanos(p[1])).unwrap()).collect()
    })
}

fn node() -> impl Strategy<Value = NodeName> {
    "[a-z0-9][a-zA-Z0-9_-]{0,20}".prop_map(|s| s.parse().unwrap())
}

fn boot() -> impl Strategy<Value = BootId> {
    any::<[u8; 16]>().prop_map(BootId::from_bytes)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn buffer(most: usize) -> impl Strategy<Value = Buffer> {
    vec(any::<u8>(), 1..most).prop_map(Buffer::from)
}

fn offset() -> impl Strategy<Value = ClockOffset> {
    (any::<i64>(), any::<u64>()).prop_map(|(ahead_nanos, bound_nanos)| ClockOffset { ahead_nanos, bound_nanos })
}

fn gap() -> impl Strategy<Value = Gap> {
    (select(&GapReason::ALL[..]), option::of(window()), option::of(quantity()), text())
        .prop_map(|(reason, interval, count, detail)| Gap { reason, interval, count, detail })
}

fn row() -> impl Strategy<Value = SourceCoverage> {
    let outcomes = [(); 6].map(|()| quantity()).prop_map(|[complete, partial, absent, failed, timed_out, skipped]| {
        OutcomeCounts { complete, partial, absent, failed, timed_out, skipped }
    });
    let head = (name(), select(&SourceKind::ALL[..]), window(), covered(), outcomes);
    let redaction =
        (name(), btree_map(name(), quantity(), 0..3)).prop_map(|(key_id, rules)| Redaction { key_id, rules });
    let tail = (quantity(), quantity(), vec(gap(), 0..3), quantity(), quantity(), option::of(redaction));
    (head, tail).prop_map(
        |((source, kind, asked, covered, outcomes), (records, items, gaps, took_nanos, bytes, redaction))| {
            SourceCoverage {
                source,
                kind,
                asked,
                covered,
                outcomes,
                records,
                items,
                gaps,
                cost: Cost { took_nanos, bytes },
                redaction,
            }
        },
    )
}

fn selection() -> impl Strategy<Value = Selection> {
    (vec(name(), 0..3), vec(name(), 0..3), vec(name(), 0..3)).prop_map(|(namespaces, pods, units)| Selection {
        namespaces,
        pods,
        units,
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    (vec(name(), 0..3), selection()).prop_map(|(sources, select)| Scope { sources, select, chosen: None })
}

pub(crate) fn coverage() -> impl Strategy<Value = Coverage> {
    let closed = (option::of(name()), gap()).prop_map(|(source, gap)| ClosedGap { source, gap });
    let amended = (1..9u32, wall(), vec(closed, 0..3)).prop_map(|(revision, sealed_at, closed)| Amendment {
        revision,
        sealed_at,
        closed,
    });
    let given = (vec(row(), 0..3), vec(gap(), 0..3), option::of(amended));
    let row = (node(), select(&NodeState::ALL[..]), option::of(offset()), given).prop_map(
        |(node, state, clock, (sources, gaps, amended))| NodeCoverage { node, state, clock, sources, gaps, amended },
    );
    (window(), vec(row, 0..3), scope(), option::of(cluster())).prop_map(|(window, nodes, scope, cluster)| Coverage {
        window,
        nodes,
        scope,
        cluster,
    })
}

fn cluster() -> impl Strategy<Value = ClusterCoverage> {
    let kind = (name(), option::of(window()), any::<(u32, u32)>(), vec(gap(), 0..3));
    let kind = kind.prop_map(|(kind, covered, (objects, changes), gaps)| KindCoverage {
        kind,
        covered: covered.into_iter().collect(),
        objects: objects.into(),
        changes: changes.into(),
        gaps,
    });
    (window(), vec(name(), 0..3), vec(kind, 0..3), vec(gap(), 0..3))
        .prop_map(|(asked, namespaces, kinds, gaps)| ClusterCoverage { asked, namespaces, kinds, gaps })
}

fn seq() -> impl Strategy<Value = FrameSeq> {
    (1..=1u64 << 56).prop_map(FrameSeq)
}

fn hello() -> impl Strategy<Value = Hello> {
    let collectable = (name(), select(&SourceKind::ALL[..])).prop_map(|(name, kind)| Collectable { name, kind });
    let who = (any::<u32>(), node(), boot(), name(), stamp());
    (who, buffer(40), option::of(seq()), vec(collectable, 0..3), connectivity::ability()).prop_map(
        |((protocol, node, boot, agent_version, clock), recording_header, last_seq, collectable, connectivity)| Hello {
            protocol,
            node,
            boot,
            agent_version,
            clock,
            recording_header,
            last_seq,
            collectable,
            connectivity,
        },
    )
}

fn batch() -> impl Strategy<Value = FrameBatch> {
    (seq(), 0..100u64, buffer(40), vec(gap(), 0..3)).prop_map(|(first, more, records, skipped)| {
        let last = FrameSeq((first.0 + more).min(1 << 56));
        // Only a batch of one frame can go on; which of them do does not matter here.
        let ends = if last == first && first.0 % 2 == 0 { Ends::Later } else { Ends::Here };
        FrameBatch { first, last, records, skipped, ends }
    })
}

pub(crate) fn from_agent() -> impl Strategy<Value = FromAgent> {
    let clock = (any::<u64>(), stamp()).prop_map(|(t, clock)| ClockAnswer { token: ProbeToken(t), clock });
    let progress = (any::<u64>(), name(), quantity(), quantity()).prop_map(|(request, source, records, bytes)| {
        CollectionProgress { request: RequestId(request), source, records, bytes: Bytes(bytes) }
    });
    let done = (any::<u64>(), vec(row(), 0..3), vec(gap(), 0..3)).prop_map(|(request, sources, gaps)| CollectionDone {
        request: RequestId(request),
        sources,
        gaps,
    });
    prop_oneof![
        hello().prop_map(FromAgent::Hello),
        batch().prop_map(FromAgent::Frames),
        clock.prop_map(FromAgent::Clock),
        progress.prop_map(FromAgent::Progress),
        done.prop_map(FromAgent::Done),
        connectivity::answer().prop_map(FromAgent::Connectivity),
    ]
}

fn ask() -> impl Strategy<Value = CollectionAsk> {
    (any::<u64>(), window(), 1..=1u64 << 56, quantity(), vec(name(), 0..3), selection(), option::of(offset())).prop_map(
        |(request, window, budget, deadline, sources, select, clock)| CollectionAsk {
            request: RequestId(request),
            window,
            budget: Bytes(budget),
            deadline: Duration::from_nanos(deadline),
            sources,
            select,
            clock,
        },
    )
}

pub(crate) fn to_agent() -> impl Strategy<Value = ToAgent> {
    let key = || any::<[u8; 32]>().prop_map(RedactionKey);
    let numbers = (any::<u32>(), option::of(seq()), quantity(), 1..=MAX_WINDOW_BATCHES);
    let welcome = (numbers, any::<[u8; 16]>(), option::of(key())).prop_map(
        |((protocol, have, catch_up, window_batches), token, redaction_key)| Welcome {
            protocol,
            token: SessionToken(token),
            have,
            catch_up: Duration::from_nanos(catch_up),
            window_batches,
            redaction_key,
        },
    );
    prop_oneof![
        welcome.prop_map(ToAgent::Welcome),
        seq().prop_map(ToAgent::Ack),
        any::<u64>().prop_map(|t| ToAgent::Probe(ProbeToken(t))),
        ask().prop_map(ToAgent::Collect),
        any::<u64>().prop_map(|r| ToAgent::Cancel(RequestId(r))),
        key().prop_map(ToAgent::Redact),
        connectivity::ask().prop_map(ToAgent::TestConnectivity),
    ]
}

fn path() -> impl Strategy<Value = EntryPath> {
    "[a-z]{1,9}(/[a-z0-9._-]{1,9}x){0,3}".prop_map(|s| s.parse().unwrap())
}

pub(crate) fn upload_part() -> impl Strategy<Value = UploadPart> {
    let head = (select(&ItemKind::ALL[..]), path(), name(), text(), option::of(name()))
        .prop_map(|(kind, path, source, method, times)| ItemHead { kind, path, source, method, times });
    let begin = (any::<[u8; 16]>(), any::<u64>(), 1..=u64::MAX, any::<u32>(), head).prop_map(
        |(token, request, run, item, head)| UploadBegin {
            token: SessionToken(token),
            request: RequestId(request),
            run: RunId(run),
            item: ItemNumber(item),
            head,
        },
    );
    let most = u32::try_from(MAX_PAYLOAD).unwrap();
    let piece = (quantity(), 1..=most, any::<u32>(), buffer(40))
        .prop_map(|(offset, plain_len, plain_crc32, deflated)| Piece { offset, plain_len, plain_crc32, deflated });
    let tail = (quantity(), digest(), quantity(), option::of(window()), vec(gap(), 0..3))
        .prop_map(|(size, sha256, records, covered, gaps)| ItemTail { size, sha256, records, covered, gaps });
    prop_oneof![begin.prop_map(UploadPart::Begin), piece.prop_map(UploadPart::Piece), tail.prop_map(UploadPart::End),]
}

pub(crate) fn upload_answer() -> impl Strategy<Value = UploadAnswer> {
    prop_oneof![
        quantity().prop_map(UploadAnswer::Resume),
        quantity().prop_map(UploadAnswer::Ack),
        Just(UploadAnswer::Done),
    ]
}

pub(crate) fn incident_id() -> impl Strategy<Value = IncidentId> {
    (1..=u64::MAX).prop_map(IncidentId)
}

fn incident_ask() -> impl Strategy<Value = IncidentAsk> {
    let texts = (text(), text(), text(), option::of(name()));
    let opener = (select(&Trigger::ALL[..]), option::of(resource()));
    (texts, select(&Severity::ALL[..]), opener, window(), vec(node(), 0..3), scope()).prop_map(
        |((title, reason, requested_by, runbook), severity, (trigger, resource), window, nodes, scope)| IncidentAsk {
            title,
            reason,
            requested_by,
            severity,
            trigger,
            resource,
            runbook,
            window,
            nodes,
            scope,
        },
    )
}

fn resource() -> impl Strategy<Value = Resource> {
    (name(), name(), name(), quantity()).prop_map(|(namespace, name, uid, generation)| Resource {
        namespace,
        name,
        uid,
        generation,
    })
}

fn cluster_selection() -> impl Strategy<Value = ClusterSelection> {
    (vec(name(), 0..3), name(), vec(name(), 0..3), vec(name(), 0..3)).prop_map(
        |(namespaces, selector, services, pods)| {
            let workloads = services.clone();
            ClusterSelection { namespaces, node_selector: selector.clone(), selector, services, workloads, pods }
        },
    )
}

pub(crate) fn open_ask() -> impl Strategy<Value = OpenAsk> {
    let chosen = option::of(cluster_selection());
    (incident_ask(), option::of(1..=1u64 << 56), 0..=60_000_000_000u64, chosen).prop_map(
        |(mut ask, deadline, slack, chosen)| {
            let asked = chosen.filter(|asked| !asked.is_empty());
            ask.scope.chosen = asked.map(|asked| Box::new(Chosen { asked, ..Chosen::default() }));
            // The trigger does not travel: whoever calls is a person.
            (ask.trigger, ask.resource) = (Trigger::Person, None);
            OpenAsk { ask, deadline: deadline.map(Duration::from_nanos), slack: Duration::from_nanos(slack) }
        },
    )
}

fn sealed() -> impl Strategy<Value = SealedArchive> {
    (
        "[A-Z]{1,9}[0-9_-]{0,9}",
        quantity(),
        digest(),
        wall(),
        any::<bool>(),
        1..9u32,
        option::of(select(&Whereabouts::ALL[..])),
    )
        .prop_map(|(file_name, size, sha256, sealed_at, whole, revision, kept)| SealedArchive {
            file_name,
            size,
            sha256,
            sealed_at,
            whole,
            revision,
            kept,
        })
}

pub(crate) fn incident() -> impl Strategy<Value = IncidentSummary> {
    let times = (wall(), wall());
    let rest = (option::of(sealed()), vec(sealed(), 0..3), option::of(name()));
    (incident_id(), incident_ask(), vec(node(), 0..3), select(&IncidentState::ALL[..]), times, rest).prop_map(
        |(id, ask, expected, state, (opened_at, deadline), (archive, earlier, failure))| IncidentSummary {
            id,
            ask,
            expected,
            state,
            opened_at,
            deadline,
            archive,
            earlier,
            failure,
        },
    )
}

pub(crate) fn detail() -> impl Strategy<Value = IncidentDetail> {
    (incident(), option::of(coverage())).prop_map(|(incident, coverage)| IncidentDetail { incident, coverage })
}

pub(crate) fn view() -> impl Strategy<Value = IncidentView> {
    let source =
        (name(), quantity(), quantity(), quantity(), any::<bool>()).prop_map(|(source, records, bytes, gaps, done)| {
            SourceProgress { source, records, bytes: Bytes(bytes), gaps, done }
        });
    let node = (node(), select(&NodePhase::ALL[..]), vec(source, 0..3))
        .prop_map(|(node, phase, sources)| NodeProgress { node, phase, sources });
    (incident(), vec(node, 0..3)).prop_map(|(incident, nodes)| IncidentView { incident, nodes })
}

pub(crate) fn list_ask() -> impl Strategy<Value = ListAsk> {
    (1..=1000u32, option::of(incident_id())).prop_map(|(page, before)| ListAsk { page, before })
}

pub(crate) fn page() -> impl Strategy<Value = IncidentPage> {
    (vec(incident(), 0..3), any::<bool>()).prop_map(|(incidents, more)| IncidentPage { incidents, more })
}

pub(crate) fn download_ask() -> impl Strategy<Value = DownloadAsk> {
    (incident_id(), quantity(), option::of(1..9u32)).prop_map(|(incident, offset, revision)| DownloadAsk {
        incident,
        offset,
        revision,
    })
}

pub(crate) fn archive_piece() -> impl Strategy<Value = ArchivePiece> {
    (quantity(), vec(any::<u8>(), 0..40), option::of(sealed())).prop_map(|(offset, data, archive)| ArchivePiece {
        offset,
        data: data.into(),
        archive,
    })
}

pub(crate) fn nodes() -> impl Strategy<Value = NodeList> {
    let time = prop_oneof![(1..=i64::MAX), (i64::MIN..=-1)].prop_map(WallTime::from_nanos);
    let known = (option::of(boot()), option::of(name()), option::of(time), option::of(offset()));
    let held = (option::of(window()), quantity(), vec(text(), 0..3));
    let node = (node(), any::<bool>(), known, held).prop_map(
        |(node, connected, (boot, agent_version, last_frame, clock), (last_words, bytes, troubles))| NodeStatus {
            node,
            link: if connected { Link::Connected } else { Link::Away },
            boot,
            agent_version,
            last_frame,
            clock,
            last_words,
            last_words_bytes: Bytes(bytes),
            troubles,
        },
    );
    (vec(node, 0..3), wall()).prop_map(|(nodes, now)| NodeList { nodes, now })
}
