//! The one binary. Everything else is in the library.

fn main() -> std::process::ExitCode {
    firstread::cli::main()
}
