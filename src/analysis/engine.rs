//! ONNX Runtime: one library a process, one warm session a network.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionOutputs};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::card::{ModelCard, NormOffsets, read_repeats};
use crate::followup::Repeats;

/// Name of the measuring network.
const MEASURING: &str = "volumetry";

/// Keeps ONNX Runtime from telling its maker what it runs, where it stands in the environment before the library is loaded.
pub const TELEMETRY_OFF: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

/// Whether [`TELEMETRY_OFF`] is in force.
#[must_use]
pub fn is_silent() -> bool {
    let (name, value) = TELEMETRY_OFF;
    std::env::var_os(name).is_some_and(|is| is == value)
}

/// Settings of inference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// `analysis.onnxruntime`: the ONNX Runtime library; empty looks beside the program, in
    /// the checkout's `.cache/onnxruntime`, and where the system keeps libraries.
    pub onnxruntime: PathBuf,
    /// `analysis.models`: folder of networks and cards; empty looks beside the program.
    pub models: PathBuf,
    /// `analysis.provider`: `auto`, `cpu` or `cuda`; auto takes CUDA where the machine has it.
    pub provider: String,
    /// `analysis.threads`: 0 leaves one core to reception and pages.
    pub threads: usize,
    /// `analysis.decode_memory_mib`: cap of a process that decodes one series.
    pub decode_memory_mib: u64,
    /// `analysis.volumetry`: measure studies after screening; `false` screens only.
    pub volumetry: bool,
    /// `analysis.attempts_max`: after so many failures a study is given up, with the reason.
    pub attempts_max: i64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            onnxruntime: PathBuf::new(),
            models: PathBuf::new(),
            provider: "auto".into(),
            threads: 0,
            decode_memory_mib: 2048,
            volumetry: true,
            attempts_max: 4,
        }
    }
}

impl EngineSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        if !["auto", "cpu", "cuda"].contains(&self.provider.as_str()) {
            return Err(format!(
                "analysis.provider is {:?}, must be \"auto\", \"cpu\" or \"cuda\"",
                self.provider
            ));
        }
        if !(256..=1_048_576).contains(&self.decode_memory_mib) {
            return Err("analysis.decode_memory_mib must be between 256 and 1048576".into());
        }
        if !(1..=100).contains(&self.attempts_max) {
            return Err("analysis.attempts_max must be between 1 and 100".into());
        }
        Ok(())
    }
}

/// The loaded library.
pub struct Runtime {
    environment: Environment,
    models: PathBuf,
    settings: EngineSettings,
    threads: usize,
}

/// A network, ready to run.
pub struct Engine {
    /// Its card.
    pub card: ModelCard,
    /// Offsets against the norm table, when they were measured.
    pub norms: Option<NormOffsets>,
    /// By how much two scans of the same person differ, when that was measured.
    pub repeats: Option<Repeats>,
    /// What it runs on: `cpu` or `cuda`.
    pub provider: &'static str,
    pub(super) session: Mutex<Session>,
    pub(super) options: RunOptions,
}

impl Engine {
    /// Ends the run under way, and every later one, with an error: a server that stops does not
    /// wait for a measurement.
    pub fn interrupt(&self) {
        if let Err(e) = self.options.terminate() {
            warn!(error = %e, "could not interrupt a network");
        }
    }
}

impl Runtime {
    /// Loads the library. `threads` 0 takes all cores but one.
    ///
    /// # Errors
    /// Says where the library or the models were looked for, and when the library would not be [silent](is_silent).
    pub fn load(settings: &EngineSettings) -> Result<Self, String> {
        if !is_silent() {
            let (name, value) = TELEMETRY_OFF;
            return Err(format!(
                "ONNX Runtime would tell its maker what it runs: {name} must be {value} when the program starts"
            ));
        }
        let library = find(&settings.onnxruntime, &library_places())
            .map_err(|e| format!("ONNX Runtime library: {e}; scripts/setup installs it"))?;
        let models = find(&settings.models, &places("models"))
            .map_err(|e| format!("folder of networks: {e}"))?;
        let environment = ort::init_from(&library)
            .map_err(|e| format!("ONNX Runtime library {}: {e}", library.display()))?
            .with_name("firstread")
            // ort asks for it unless it is told not to
            .with_telemetry(false)
            .build()
            .map_err(|e| format!("ONNX Runtime {}: {e}", library.display()))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = match settings.threads {
            0 => cores.saturating_sub(1).max(1),
            n => n.min(cores),
        };
        Ok(Self {
            environment,
            models,
            settings: settings.clone(),
            threads,
        })
    }

    /// Makes a session of a network after checking it against its card.
    ///
    /// # Errors
    /// When card, file or provider do not fit.
    pub fn engine(&self, name: &str) -> Result<Engine, String> {
        let (card, bytes) = ModelCard::read(&self.models, name)?;
        let norms = NormOffsets::read(&self.models, &card);
        let repeats = read_repeats(&self.models, &card);
        let (session, provider) = self.session(&bytes)?;
        info!(model = %card.label(), provider, threads = self.threads, "network is ready");
        Ok(Engine {
            card,
            norms,
            repeats,
            provider,
            session: Mutex::new(session),
            options: RunOptions::new().map_err(|e| e.to_string())?,
        })
    }

    /// The measuring network, or in words why there is none: studies are screened without it.
    ///
    /// # Errors
    /// Where it is turned off, absent, or does not fit its card.
    pub fn measuring_engine(&self) -> Result<Engine, String> {
        if !self.settings.volumetry {
            return Err("turned off by analysis.volumetry".into());
        }
        let card = self.models.join(format!("{MEASURING}.toml"));
        if !card.exists() {
            return Err("no network for it is installed".into());
        }
        self.engine(MEASURING).map_err(|e| {
            error!(error = %e, "no volumetry");
            "its network does not fit its card or cannot be loaded".into()
        })
    }

    fn session(&self, bytes: &[u8]) -> Result<(Session, &'static str), String> {
        let wanted = self.settings.provider.as_str();
        let has_device = Path::new("/dev/nvidia0").exists();
        if wanted == "cuda" || (wanted == "auto" && has_device) {
            match self.build(bytes, true) {
                Ok(session) => return Ok((session, "cuda")),
                Err(e) if wanted == "cuda" => return Err(format!("CUDA was asked for: {e}")),
                Err(e) => warn!(error = %e, "CUDA does not work here, using the CPU"),
            }
        }
        self.build(bytes, false).map(|session| (session, "cpu"))
    }

    fn build(&self, bytes: &[u8], cuda: bool) -> Result<Session, String> {
        let text = |e: ort::Error| e.to_string();
        let mut builder = Session::builder(&self.environment)
            .map_err(text)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(|e| e.to_string())?
            .with_intra_threads(self.threads)
            .map_err(|e| e.to_string())?
            .with_deterministic_compute(true)
            .map_err(|e| e.to_string())?;
        if cuda {
            // Timing the algorithms at each start would choose other ones from run to run, and
            // TF32 rounds to 10 bits: the same study must give the same bits, close to the CPU's.
            let provider = ort::ep::CUDA::default()
                .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
                .with_tf32(false)
                .build()
                .error_on_failure();
            builder = builder
                .with_execution_providers([provider])
                .map_err(|e| e.to_string())?;
        }
        // The arena never gives memory back: without it a run costs little more time and
        // the server's memory returns to its baseline.
        let cpu = ort::ep::CPU::default().with_arena_allocator(false).build();
        builder
            .with_execution_providers([cpu])
            .map_err(|e| e.to_string())?
            .commit_from_memory(bytes)
            .map_err(text)
    }
}

/// An output of `count` finite numbers.
pub(super) fn floats(
    outputs: &SessionOutputs,
    name: &str,
    count: usize,
) -> Result<Vec<f32>, String> {
    let value = outputs
        .get(name)
        .ok_or_else(|| format!("the network gives no {name}"))?;
    let (_, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|e| format!("the network's {name}: {e}"))?;
    if data.len() == count && data.iter().all(|v| v.is_finite()) {
        Ok(data.to_vec())
    } else {
        Err(format!("the network's {name} is malformed"))
    }
}

/// The output `labels`: `count` indices below `codes`.
pub(super) fn labels(
    outputs: &SessionOutputs,
    count: usize,
    codes: usize,
) -> Result<Vec<u8>, String> {
    let value = outputs.get("labels").ok_or("the network gives no labels")?;
    let (_, labels) = value
        .try_extract_tensor::<u8>()
        .map_err(|e| format!("the network's labels: {e}"))?;
    if labels.len() == count && labels.iter().all(|l| usize::from(*l) < codes) {
        Ok(labels.to_vec())
    } else {
        Err("the network's labels are malformed".into())
    }
}

fn library_places() -> Vec<PathBuf> {
    let mut all = places(".cache/onnxruntime/libonnxruntime.so");
    all.extend(places("libonnxruntime.so"));
    for folder in [
        "/usr/lib/firstread",
        "/usr/local/lib",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
    ] {
        all.push(Path::new(folder).join("libonnxruntime.so"));
    }
    all
}

/// The norm offsets of a network and the label that its results carry, by its card alone: for
/// processes that show results and load no network.
#[must_use]
pub fn norms_of(settings: &EngineSettings, name: &str) -> Option<(String, NormOffsets)> {
    let models = find(&settings.models, &places("models")).ok()?;
    let (card, _) = ModelCard::read(&models, name).ok()?;
    let norms = NormOffsets::read(&models, &card)?;
    Some((card.label(), norms))
}

/// `name` beside the program, in the folders above it (a checkout), in the working folder and in `share`.
fn places(name: &str) -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let mut all: Vec<PathBuf> = program
        .iter()
        .flat_map(|p| {
            p.ancestors()
                .skip(1)
                .take(4)
                .map(|folder| folder.join(name))
        })
        .collect();
    all.extend(std::env::current_dir().map(|folder| folder.join(name)));
    all.push(Path::new("/usr/share/firstread").join(name));
    all
}

fn find(wanted: &Path, places: &[PathBuf]) -> Result<PathBuf, String> {
    if !wanted.as_os_str().is_empty() {
        let there = wanted.exists();
        return if there {
            Ok(wanted.into())
        } else {
            Err(format!("{} is not there", wanted.display()))
        };
    }
    places.iter().find(|p| p.exists()).cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        format!("found nowhere; looked at {}", looked.join(", "))
    })
}
