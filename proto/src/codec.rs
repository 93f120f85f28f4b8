//! Messages of gRPC as prost encodes them, in buffers that begin small.
//!
//! tonic takes 8 KiB for each direction of each call before anything is said. A collector has a call open with each of
//! thousands of agents, and what goes over most of them is a few hundred bytes a second: buffers grow with what is said.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec as Tonic};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// What a buffer begins with.
const BEGINNING: usize = 512;

/// Encoded messages are handed over once there are so many bytes of them.
const TOGETHER: usize = 32 << 10;

/// The codec of every method.
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for Codec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Tonic for Codec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BEGINNING, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BEGINNING, TOGETHER))
    }
}
