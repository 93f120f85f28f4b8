//! What the library is told to do: a file beside it, `<library>.script`, read anew at the beginning of every pass.
//!
//! One instruction a line; `*` stands for every GPU, calls are named as NVML names them:
//!
//! ```text
//! gpus 8                                  how many there are (2 where nothing is said)
//! driver 550.54.15                        the version of the driver
//! init 9                                  nvmlInit_v2 returns this code; `init hang` never returns
//! gone 5                                  NVML does not list GPU 5
//! lost 5                                  every call about GPU 5 returns NVML_ERROR_GPU_IS_LOST
//! error nvmlDeviceGetTemperature 2 999    this call about GPU 2 returns this code
//! error nvmlDeviceGetCount_v2 * 1         the same of a call about no GPU
//! hang nvmlDeviceGetPowerUsage 3          this call about GPU 3 never returns
//! value nvmlDeviceGetPowerUsage 3 250000  this call about GPU 3 answers this
//! value field:186 3 nan                   so does this field
//! process 3 C 4711 1073741824             process 4711 holds 1 GiB of GPU 3 for computing (G: graphics, M: MPS)
//! mig 2 3                                 GPU 2 is split into three
//! event 3 79                              NVML reports Xid 79 of GPU 3, once
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is done instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    Return(u32),
    Hang,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) gpus: Option<u32>,
    pub(crate) driver: Option<String>,
    pub(crate) gone: Vec<u32>,
    pub(crate) processes: Vec<(u32, char, u32, u64)>,
    pub(crate) mig: BTreeMap<u32, u32>,
    pub(crate) events: Vec<(u32, u64)>,
    /// By call; no GPU is every GPU.
    instead: Vec<(String, Option<u32>, Instead)>,
    lost: Vec<u32>,
    values: Vec<(String, Option<u32>, f64)>,
}

impl Script {
    /// The script beside this library; one that is not there says nothing.
    #[expect(clippy::disallowed_methods, reason = "a test wrote it")]
    pub(crate) fn load() -> Self {
        let text = library().and_then(|path| std::fs::read_to_string(format!("{}.script", path.display())).ok());
        Self::parse(&text.unwrap_or_default())
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut script = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
            let gpu = |at: usize| number(at).and_then(|n| u32::try_from(n).ok());
            let name = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
            match words.first().copied() {
                Some("gpus") => script.gpus = gpu(1),
                Some("driver") => script.driver = Some(name(1)),
                Some("gone") => script.gone.extend(gpu(1)),
                Some("lost") => script.lost.extend(gpu(1)),
                Some("init") => {
                    let instead = gpu(1).map_or(Instead::Hang, Instead::Return);
                    script.instead.push(("nvmlInit_v2".to_owned(), None, instead));
                }
                Some("hang") => script.instead.push((name(1), gpu(2), Instead::Hang)),
                Some("error") => script.instead.extend(gpu(3).map(|code| (name(1), gpu(2), Instead::Return(code)))),
                Some("value") => {
                    let value = words.get(3).and_then(|word| word.parse().ok());
                    script.values.extend(value.map(|value| (name(1), gpu(2), value)));
                }
                Some("process") => {
                    let kind = words.get(2).and_then(|word| word.chars().next());
                    let process = (gpu(1), kind, gpu(3), number(4));
                    if let (Some(gpu), Some(kind), Some(pid), Some(bytes)) = process {
                        script.processes.push((gpu, kind, pid, bytes));
                    }
                }
                Some("mig") => script.mig.extend(gpu(1).zip(gpu(2))),
                Some("event") => script.events.extend(gpu(1).zip(number(2))),
                _ => {}
            }
        }
        script
    }

    /// What this call about this GPU does instead of answering.
    pub(crate) fn instead(&self, call: &str, gpu: Option<u32>) -> Option<Instead> {
        // NVML_ERROR_GPU_IS_LOST
        let lost = gpu.filter(|gpu| self.lost.contains(gpu)).map(|_| Instead::Return(15));
        let told =
            |(name, whose, _): &&(String, Option<u32>, Instead)| name == call && (whose.is_none() || *whose == gpu);
        // Who a GPU is can be had also when it is lost: NVML keeps that.
        let identity =
            ["nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetName", "nvmlDeviceGetMinorNumber"];
        let lost = lost.filter(|_| !identity.contains(&call));
        self.instead.iter().find(told).map(|(.., instead)| *instead).or(lost)
    }

    /// What this call about this GPU answers, where it is told.
    pub(crate) fn value(&self, call: &str, gpu: u32) -> Option<f64> {
        let told = |(name, whose, _): &&(String, Option<u32>, f64)| name == call && whose.is_none_or(|w| w == gpu);
        self.values.iter().find(told).map(|(.., value)| *value)
    }
}

/// Where this library was loaded from, by what the kernel says of this process: the file that is mapped where this
/// function is.
#[expect(clippy::disallowed_methods, reason = "the maps of a process of a test")]
fn library() -> Option<PathBuf> {
    let here = library as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (from, until) = range.split_once('-')?;
            let from = usize::from_str_radix(from, 16).ok()?;
            let until = usize::from_str_radix(until, 16).ok()?;
            (from..until).contains(&here).then(|| PathBuf::from(rest.split_once('/').map_or("", |(_, path)| path)))
        })
        .map(|path| PathBuf::from("/").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_is_understood() {
        let script = Script::parse(
            "gpus 8\ndriver 550.1\ngone 1\nlost 5\nerror a 2 999\nhang b 3\nerror c * 1\nvalue d 3 2.5\nvalue field:1 * nan\n\
             process 3 C 4711 9\nmig 2 3\nevent 3 79\ninit 9\nnonsense",
        );
        assert_eq!((script.gpus, script.driver.as_deref(), script.gone.as_slice()), (Some(8), Some("550.1"), &[1][..]));
        assert_eq!(script.instead("a", Some(5)), Some(Instead::Return(15)));
        assert_eq!(script.instead("nvmlDeviceGetUUID", Some(5)), None);
        assert_eq!(script.instead("a", Some(2)), Some(Instead::Return(999)));
        assert_eq!((script.instead("a", Some(3)), script.instead("b", Some(3))), (None, Some(Instead::Hang)));
        assert_eq!(
            (script.instead("c", None), script.instead("c", Some(7))),
            (Some(Instead::Return(1)), Some(Instead::Return(1)))
        );
        assert_eq!((script.value("d", 3), script.value("d", 4)), (Some(2.5), None));
        assert!(script.value("field:1", 0).is_some_and(f64::is_nan));
        assert_eq!(script.instead("nvmlInit_v2", None), Some(Instead::Return(9)));
        assert_eq!(
            (script.processes.len(), script.mig.get(&2), script.events.as_slice()),
            (1, Some(&3), &[(3, 79)][..])
        );
    }

    #[test]
    fn the_file_that_this_code_is_in_is_found() {
        assert_eq!(library(), std::env::current_exe().ok());
    }
}
