//! Every message of the wire from any bytes: a value of the domain or an error, and a value says the same when it is sent on.

use casefile_proto::connectivity::{Judged, TestAsk};
use casefile_proto::convert::ConvertError;
use casefile_proto::coverage::Coverage;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{
    ArchivePiece, DownloadAsk, IncidentDetail, IncidentPage, IncidentSummary, IncidentView, ListAsk, OpenAsk,
};
use casefile_proto::node::NodeList;
use casefile_proto::session::{FromAgent, ToAgent, UploadAnswer, UploadPart};
use casefile_proto::wire::v1;
use prost::Message;

use crate::input::Input;
use crate::{Target, none};

pub(crate) const TARGET: Target =
    Target { name: "proto", about: "Every message (the first byte says which) from any bytes", run, seeds: none };

fn taken<D, W>(bytes: &[u8])
where
    D: TryFrom<W, Error = ConvertError> + PartialEq + Clone + std::fmt::Debug,
    W: From<D> + Message + Default,
{
    if let Ok(message) = W::decode(bytes)
        && let Ok(value) = D::try_from(message)
    {
        let sent = W::from(value.clone()).encode_to_vec();
        assert_eq!(D::try_from(W::decode(&sent[..]).unwrap()).as_ref(), Ok(&value));
    }
}

const ALL: &[fn(&[u8])] = &[
    taken::<FromAgent, v1::SessionRequest>,
    taken::<ToAgent, v1::SessionResponse>,
    taken::<UploadPart, v1::UploadRequest>,
    taken::<UploadAnswer, v1::UploadResponse>,
    taken::<Coverage, v1::Coverage>,
    taken::<OpenAsk, v1::OpenIncidentRequest>,
    taken::<IncidentSummary, v1::OpenIncidentResponse>,
    taken::<IncidentId, v1::GetIncidentRequest>,
    taken::<IncidentId, v1::WatchIncidentRequest>,
    taken::<IncidentDetail, v1::GetIncidentResponse>,
    taken::<IncidentView, v1::WatchIncidentResponse>,
    taken::<ListAsk, v1::ListIncidentsRequest>,
    taken::<IncidentPage, v1::ListIncidentsResponse>,
    taken::<DownloadAsk, v1::DownloadArchiveRequest>,
    taken::<ArchivePiece, v1::DownloadArchiveResponse>,
    taken::<NodeList, v1::ListNodesResponse>,
    taken::<TestAsk, v1::TestConnectivityRequest>,
    taken::<Judged, v1::TestConnectivityResponse>,
];

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let which = usize::from(input.byte()) % ALL.len();
    ALL[which](input.rest);
}
