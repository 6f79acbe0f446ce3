//! The parsers of what comes from outside, for libFuzzer. The same file feeds the damage test of the main build.

#[path = "../tests/crash/parsers.rs"]
pub mod parsers;

/// With `FIRSTREAD_FUZZ_SEEDS`, writes what the target begins with into that folder, and ends.
///
/// # Panics
/// Where there is no such target, or the folder cannot be written to.
pub fn begin(name: &str) {
    let Some(folder) = std::env::var_os("FIRSTREAD_FUZZ_SEEDS") else {
        return;
    };
    let target = parsers::TARGETS.iter().find(|t| t.name == name);
    let seeds = target.expect("a target of parsers.rs").seeds;
    for (number, seed) in seeds().iter().enumerate() {
        let path = std::path::Path::new(&folder).join(format!("seed-{number}"));
        std::fs::write(path, seed).expect("the folder can be written to");
    }
    std::process::exit(0);
}
