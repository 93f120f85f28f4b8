//! What the levels of deflate make of container logs cut into chunks as the archive has them, and how fast the whole way
//! from the files to the chunks is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::PathBuf;
use std::time::Duration;

use casefile_agent::logs::{LogSink, Stop};
use casefile_evidence::archive::chunk::{Chunk, Chunker, MAX_PLAIN, Pack};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use flate2::{Compress, Compression, FlushCompress};

use crate::cpu_of_this_process;

/// So much text is compressed at each level.
const TEXT: usize = 64 << 20;

/// Levels that are measured.
const LEVELS: [u32; 5] = [1, 2, 3, 4, 6];

/// One line for each level, on the first lines of every log in turn.
pub(crate) fn measure(files: &[&PathBuf]) {
    let text = sample(files);
    for level in LEVELS {
        let mut deflate = Compress::new(Compression::new(level), false);
        let mut out = Vec::with_capacity(2 * MAX_PLAIN);
        let (mut packed, before) = (0, cpu_of_this_process());
        for piece in text.chunks(MAX_PLAIN) {
            deflate.reset();
            out.clear();
            deflate.compress_vec(piece, &mut out, FlushCompress::Sync).unwrap();
            packed += out.len();
        }
        let took = (cpu_of_this_process() - before).as_secs_f64();
        let (mb, ratio) = (text.len() as f64 / 1e6 / took, text.len() as f64 / packed as f64);
        println!("deflate level {level}  {mb:>7.0} MB/s of plain text  {ratio:>6.2}:1");
    }
}

fn sample(files: &[&PathBuf]) -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT + (1 << 20));
    let part = TEXT / files.len();
    for file in files {
        let mut lines = BufReader::with_capacity(1 << 20, std::fs::File::open(file).unwrap());
        let end = text.len() + part;
        while text.len() < end && lines.read_until(b'\n', &mut text).unwrap() > 0 {}
    }
    text
}

/// Takes chunks and keeps none.
type Away = Box<dyn FnMut(Chunk) -> std::io::Result<()>>;

/// A sink that does with records what a collection does: cut, hash, compress.
#[derive(Default)]
pub(crate) struct Packer {
    chunks: Option<Chunker<Away>>,
    /// Plain bytes that came in.
    pub(crate) bytes: u64,
}

impl LogSink for Packer {
    fn begin(&mut self, _head: ItemHead) -> ControlFlow<Stop> {
        self.chunks = Some(Chunker::new(
            Pack::Deflate,
            Box::new(|chunk| {
                std::hint::black_box(chunk);
                Ok(())
            }),
        ));
        Continue(())
    }

    fn record(&mut self, _at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        self.bytes += bytes.len() as u64;
        match self.chunks.as_mut().map(|c| c.write_all(bytes)) {
            Some(Ok(())) => Continue(()),
            _ => Break(Stop::Gone),
        }
    }

    fn end(&mut self, _covered: Option<Window>, _gaps: Vec<Gap>) -> ControlFlow<Stop> {
        self.chunks.take().unwrap().finish().unwrap();
        Continue(())
    }
}

/// How fast records go from the files into chunks.
pub(crate) fn print_pipeline(packer: &Packer, took: Duration) {
    let mb = packer.bytes as f64 / 1e6 / took.as_secs_f64();
    println!("files → records → chunks  {mb:>7.0} MB/s of records, {:.1} MB", packer.bytes as f64 / 1e6);
}
