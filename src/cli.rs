//! The command line. Exit codes: 0 done, 1 internal, 2 usage, 3 bad input, 4 not analysed.

mod anew;
mod audit;
mod backup;
mod calibrate;
mod simulate;
mod tokens;
mod validate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::analysis::Runtime;
use crate::analysis::analyze::{self, Person, Problem, Tools};
use crate::clock::SteadyClock;
use crate::config::Config;
use crate::dicom::decode::{self, DecodeLimits};
use crate::norms::{Norms, Sex};
use crate::secrets;
use crate::serve::{Part, Server};
use crate::store::Store;
use crate::store::accounts::{FirstUser, Role};
use crate::telemetry;

/// Exit code for input that cannot be used.
const BAD_INPUT: u8 = 3;
/// Exit code for input that is well formed and cannot be analysed.
const NOT_ANALYSED: u8 = 4;

/// Decides which brain MRI a radiologist should read first.
#[derive(Debug, Parser)]
#[command(version, after_help = crate::RESEARCH_USE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive studies, screen them, and show the list.
    Serve {
        /// Data folder.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Address and port of pages and API.
        #[arg(long)]
        http: Option<SocketAddr>,
        /// Address and port of DICOM.
        #[arg(long)]
        dicom: Option<SocketAddr>,
        /// Address and port of HL7 v2 over MLLP; without it, there is none.
        #[arg(long)]
        hl7: Option<SocketAddr>,
        /// all, receiver, worker or web: several processes share one PostgreSQL and one data folder.
        #[arg(long)]
        role: Option<Part>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Analyse one study from files to files: segmentation, volumes, report.
    Analyze {
        /// Folder of DICOM files, a NIfTI file (.nii, .nii.gz), or a study UID (with --data).
        input: PathBuf,
        /// The FLAIR that belongs to a NIfTI file.
        #[arg(long)]
        flair: Option<PathBuf>,
        /// Folder for the results.
        #[arg(long)]
        out: PathBuf,
        /// Age at the scan, in years.
        #[arg(long)]
        age: Option<f64>,
        /// F or M.
        #[arg(long, value_parser = sex)]
        sex: Option<Sex>,
        /// Data folder: of the study UID, and of the scanner's calibration.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Scanner whose calibration is used, in place of the one that the files name.
        #[arg(long)]
        scanner: Option<String>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Copy database and files into a folder, while the server runs.
    Backup(backup::Backup),
    /// Put a backup into an empty data folder and an empty database.
    Restore(backup::Restore),
    /// Calibrate a scanner on local healthy scans; list and revoke calibrations.
    #[command(subcommand)]
    Calibrate(calibrate::Calibrate),
    /// Compare label maps with the truth and with raters.
    Validate(validate::Validate),
    /// Simulate waits under a way of ordering the list.
    Simulate(simulate::Simulate),
    /// Bearer tokens.
    #[command(subcommand)]
    Token(tokens::Tokens),
    /// The audit trail: verify and export it.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Decodes one series in a process of its own; the server calls it.
    #[command(name = decode::SUBCOMMAND, hide = true)]
    Decode,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Role::ALL.iter().map(|r| r.as_str()).collect();
        format!("must be one of {}", all.join(", "))
    })
}

fn sex(text: &str) -> Result<Sex, String> {
    Sex::parse(text).ok_or_else(|| "must be F or M".to_owned())
}

impl Command {
    /// Whether it keeps data of patients where only we and our group should read it; results go where the caller wants them.
    fn keeps(&self) -> bool {
        let elsewhere = matches!(
            self,
            Self::Decode | Self::Analyze { .. } | Self::Validate(_) | Self::Simulate(_)
        );
        !elsewhere
    }
}

/// Runs the command of the process' arguments.
#[must_use]
pub fn main() -> ExitCode {
    // Arguments that clap refuses end the process with its code 2.
    let command = Arguments::parse().command;
    if !matches!(command, Command::Decode)
        && let Err(e) = anew::begin()
    {
        eprintln!("firstread: {e}");
        return ExitCode::FAILURE;
    }
    if command.keeps() {
        anew::keep_to_ourselves();
    }
    let outcome = match command {
        Command::Decode => return decode::child::run(),
        Command::Serve {
            data,
            http,
            dicom,
            hl7,
            role,
            config,
        } => settings(config.as_deref(), data).and_then(|mut c| {
            c.process.role = role.unwrap_or(c.process.role);
            c.listen.http = http.unwrap_or(c.listen.http);
            c.listen.dicom = dicom.unwrap_or(c.listen.dicom);
            if let Some(hl7) = hl7 {
                c.listen.hl7 = hl7.to_string();
            }
            block_on(serve(c))
        }),
        Command::Analyze {
            input,
            flair,
            out,
            age,
            sex,
            data,
            scanner,
            config,
        } => {
            settings(config.as_deref(), data.clone()).and_then(|mut c| {
                // Nobody else is served here: all cores.
                c.analysis.threads = cores();
                let asked = Asked {
                    input: &input,
                    flair: flair.as_deref(),
                    person: Person {
                        age_years: age,
                        sex,
                    },
                    has_data: data.is_some_and(|data| data.is_dir()) || c.database_url().is_some(),
                    scanner,
                };
                block_on(async { analyze(&c, &asked, &out).await.map_err(exit_code) })
            })
        }
        Command::Backup(arguments) => backup::back_up(arguments),
        Command::Restore(arguments) => backup::restore(arguments),
        Command::Calibrate(arguments) => calibrate::run(arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Token(arguments) => tokens::run(arguments),
        Command::Audit(arguments) => audit::run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => {
            eprintln!("firstread: {problem}");
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, String);

fn settings(file: Option<&Path>, data: Option<PathBuf>) -> Result<Config, Failure> {
    let mut config = Config::read(file).map_err(|e| (BAD_INPUT, e))?;
    if let Some(data) = data {
        config.dicom.spool_dir = data.join("spool");
        config.listen.data = data;
    }
    Ok(config)
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| (1, format!("could not start: {e}")))?;
    runtime.block_on(work)
}

async fn serve(config: Config) -> Result<(), Failure> {
    telemetry::log_to_stderr(&config.log);
    let server = Server::start(config, Arc::new(SteadyClock::default()))
        .await
        .map_err(|e| (1, e))?;
    // whoever reads that it is ready may ask it to stop
    let stopping = asked_to_stop();
    say(&format!(
        "firstread is ready: {}\n{}",
        server.at.in_words(),
        crate::RESEARCH_USE
    ));
    server.run(stopping).await.map_err(|e| (1, e))
}

/// What `analyze` was asked for.
struct Asked<'a> {
    input: &'a Path,
    flair: Option<&'a Path>,
    person: Person,
    /// There is a database to look for calibrations in.
    has_data: bool,
    scanner: Option<String>,
}

async fn analyze(config: &Config, asked: &Asked<'_>, out: &Path) -> Result<(), Problem> {
    let limits = DecodeLimits {
        memory_mib: config.analysis.decode_memory_mib,
        ..DecodeLimits::default()
    };
    let data = asked.has_data.then_some(config.listen.data.as_path());
    let input = analyze::read(asked.input, asked.flair, data, &limits).await?;
    let runtime = Runtime::load(&config.analysis).map_err(Problem::Internal)?;
    let screening = runtime.engine("screening").map_err(Problem::Internal)?;
    let measuring = runtime.measuring_engine();
    let norms = Norms::parse(crate::serve::NORM_TABLE).map_err(Problem::Internal)?;
    let scanner = asked.scanner.as_ref().or(input.scanner.as_ref());
    let calibration = match (&measuring, scanner, asked.has_data) {
        (Ok(engine), Some(scanner), true) => {
            let database = |e| Problem::Internal(format!("database: {e}"));
            let store = Store::open(config.database_url(), &config.listen.data).await;
            let found = store
                .map_err(database)?
                .calibration_of(scanner, &engine.card.sha256)
                .await;
            found.map_err(database)?
        }
        _ => None,
    };
    if let (Some(scanner), None) = (&asked.scanner, &calibration) {
        return Err(Problem::BadInput(format!(
            "scanner {scanner:?} has no calibration in force for this network"
        )));
    }
    let tools = Tools {
        screening: &screening,
        measuring: measuring.as_ref().map_err(String::as_str),
        norms: &norms,
        calibration: calibration.as_ref(),
    };
    analyze::write(tools, &input, asked.person, out)
}

fn exit_code(problem: Problem) -> Failure {
    match problem {
        Problem::Internal(text) => (1, text),
        Problem::BadInput(text) => (BAD_INPUT, text),
        Problem::NotAnalysed(text) => (NOT_ANALYSED, format!("not analysed: {text}")),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Ends when somebody asks this process to stop, from this call on.
fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    async {
        let Ok(mut terminate) = terminate else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// The database of a data folder that is there.
async fn open_store(config: &Config) -> Result<Store, Failure> {
    let data = &config.listen.data;
    if config.database_url().is_none() && !data.is_dir() {
        return Err((
            BAD_INPUT,
            format!("data folder {} is not there", data.display()),
        ));
    }
    Store::open(config.database_url(), data)
        .await
        .map_err(|e| (1, format!("database: {e}")))
}

/// Tells the administrator how to sign in for the first time. A password of ours is shown on a terminal alone: under
/// systemd and in containers standard output is the log, and it lies in a file of the data folder.
///
/// # Errors
/// When that file cannot be written.
pub(crate) fn hand_over(user: &FirstUser, data: &Path) -> Result<(), String> {
    use std::io::IsTerminal as _;
    let name = &user.name;
    if !user.generated {
        say(&format!("first sign-in: user {name}, password as set"));
        return Ok(());
    }
    let password = if std::io::stdout().is_terminal() {
        user.password.clone()
    } else {
        let file = secrets::write_first_password(data, &user.password);
        let file = file.map_err(|e| {
            let path = data.join(secrets::FIRST_PASSWORD);
            format!("could not write {}: {e}", path.display())
        })?;
        format!("in {}", file.display())
    };
    say(&format!(
        "first sign-in: user {name}, password {password}; it must be changed then"
    ));
    Ok(())
}

/// A server goes on when nobody reads its standard output any more, where `println!` would panic.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
