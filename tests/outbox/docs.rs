//! What docs/integration.md tells an administrator to write is accepted as it stands there.

use std::path::Path;

use firstread::config::Config;

/// People that the page takes for granted.
const OTHERS: &str = "\n[[alerts.destinations]]\nname = \"bert-pager\"\nchannel = \"pager\"\nto = \"5551235@pager.hospital.example\"\n\
    [[alerts.destinations]]\nname = \"carla-pager\"\nchannel = \"pager\"\nto = \"5551236@pager.hospital.example\"\n";

#[test]
fn the_settings_of_the_page_are_accepted() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integration.md");
    let text = std::fs::read_to_string(page).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    let written: Vec<&str> = blocks.filter_map(|b| b.strip_prefix("toml\n")).collect();
    assert!(written.len() >= 5, "the page has lost its settings");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), written.join("\n") + OTHERS).unwrap();
    let config = Config::read(Some(file.path())).unwrap();
    assert_eq!(config.alerts.steps.len(), 2);
    assert_eq!(config.alerts.destinations.len(), 6);
    assert_eq!(config.alerts.schedules[0].name, "neuro");
    assert_eq!(config.alerts.rules[0].name, "north-at-night");
}
