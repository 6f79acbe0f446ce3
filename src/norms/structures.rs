//! FreeSurfer codes and the names that the norm table has for them.

/// (code, name in the norm table, name of the sum of both sides), the left side first.
pub const STRUCTURES: [(i64, &str, Option<&str>); 33] = [
    (
        2,
        "left cerebral white matter",
        Some("total cerebral white matter"),
    ),
    (
        41,
        "right cerebral white matter",
        Some("total cerebral white matter"),
    ),
    (3, "left cerebral cortex", Some("total cerebral cortex")),
    (42, "right cerebral cortex", Some("total cerebral cortex")),
    (4, "left lateral ventricle", Some("total lateral ventricle")),
    (
        43,
        "right lateral ventricle",
        Some("total lateral ventricle"),
    ),
    (
        5,
        "left inferior lateral ventricle",
        Some("total inferior lateral ventricle"),
    ),
    (
        44,
        "right inferior lateral ventricle",
        Some("total inferior lateral ventricle"),
    ),
    (
        7,
        "left cerebellum white matter",
        Some("total cerebellum white matter"),
    ),
    (
        46,
        "right cerebellum white matter",
        Some("total cerebellum white matter"),
    ),
    (8, "left cerebellum cortex", Some("total cerebellum cortex")),
    (
        47,
        "right cerebellum cortex",
        Some("total cerebellum cortex"),
    ),
    (10, "left thalamus", Some("total thalamus")),
    (49, "right thalamus", Some("total thalamus")),
    (11, "left caudate", Some("total caudate")),
    (50, "right caudate", Some("total caudate")),
    (12, "left putamen", Some("total putamen")),
    (51, "right putamen", Some("total putamen")),
    (13, "left pallidum", Some("total pallidum")),
    (52, "right pallidum", Some("total pallidum")),
    (14, "3rd ventricle", None),
    (15, "4th ventricle", None),
    (16, "brain-stem", None),
    (17, "left hippocampus", Some("total hippocampus")),
    (53, "right hippocampus", Some("total hippocampus")),
    (18, "left amygdala", Some("total amygdala")),
    (54, "right amygdala", Some("total amygdala")),
    (24, "csf", None),
    (26, "left accumbens area", Some("total accumbens area")),
    (58, "right accumbens area", Some("total accumbens area")),
    (28, "left ventral DC", Some("total ventral DC")),
    (60, "right ventral DC", Some("total ventral DC")),
    (77, "white matter lesions", None),
];

/// The norm table's name of intracranial volume.
pub const INTRACRANIAL: &str = "total intracranial";

/// Name of a code in the norm table.
#[must_use]
pub fn name_of(code: i64) -> Option<&'static str> {
    STRUCTURES.iter().find(|s| s.0 == code).map(|s| s.1)
}

/// Name of the sum of both sides that a code belongs to.
#[must_use]
pub fn total_of(code: i64) -> Option<&'static str> {
    STRUCTURES.iter().find(|s| s.0 == code).and_then(|s| s.2)
}
