//! The words that technologists and scanners write into series descriptions.

/// Words of a description and a protocol name, lower case, and both run together.
pub(super) struct Words {
    single: Vec<String>,
    text: String,
}

impl Words {
    /// Splits at everything but letters, digits, `*` and `+`.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        for part in texts {
            text.push_str(&part.to_lowercase());
            text.push(' ');
        }
        let single = text
            .split(|c: char| !(c.is_alphanumeric() || c == '*' || c == '+'))
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        Self { single, text }
    }

    /// The first of `words` that stands alone, or (written with a trailing `~`) anywhere.
    pub fn find(&self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().find_map(|word| match word.strip_suffix('~') {
            Some(part) => self.text.contains(part).then_some(part),
            None => self.single.iter().any(|w| w == word).then_some(*word),
        })
    }

    /// Whether any of `words` is there.
    pub fn any(&self, words: &[&'static str]) -> bool {
        self.find(words).is_some()
    }
}

pub(super) const LOCALISER: [&str; 9] = [
    "loc", "locs", "localiz~", "localis~", "scout~", "survey~", "3plane~", "3 plane~", "3-plane~",
];
pub(super) const CALIBRATION: [&str; 12] = [
    "calibration~",
    "calib",
    "asset cal~",
    "coilsurvey~",
    "refscan~",
    "ref scan~",
    "senseref~",
    "shim",
    "fieldmap~",
    "field_map~",
    "field map~",
    "b1map~",
];
pub(super) const DERIVED: [&str; 22] = [
    "mpr",
    "mprs",
    "mip",
    "mips",
    "minip",
    "mnip",
    "adc",
    "eadc",
    "colfa",
    "tracew",
    "trace",
    "reformat~",
    "rfmt",
    "reformatted",
    "subtract~",
    "synthetic~",
    "magic~",
    "t1map~",
    "t2map~",
    "t1 map~",
    "t2 map~",
    "screensave~",
];
pub(super) const DIFFUSION: [&str; 12] = [
    "dwi~",
    "dti~",
    "diff",
    "diffusion~",
    "ep2d_diff~",
    "hardi",
    "noddi",
    "dki",
    "tensor~",
    "resolve~",
    "dmri~",
    "b1000~",
];
pub(super) const FUNCTIONAL: [&str; 7] = [
    "bold~",
    "fmri~",
    "rsfmri~",
    "resting~",
    "rest",
    "ep2d_fid~",
    "sbref~",
];
pub(super) const PERFUSION: [&str; 13] = [
    "perf",
    "perfusion~",
    "dsc",
    "dce",
    "asl",
    "pasl",
    "pcasl~",
    "rcbf",
    "cbf",
    "cbv",
    "mtt",
    "ttp",
    "tmax",
];
pub(super) const ANGIOGRAPHY: [&str; 11] = [
    "tof", "mra", "mrv", "angio~", "pca", "venogra~", "inhance~", "trance", "twist", "tricks",
    "cemra~",
];
pub(super) const PHASE: [&str; 6] = ["pha", "phase", "phase_map~", "pha_images~", "real", "imag"];
pub(super) const SWI: [&str; 6] = ["swi~", "swan", "swip", "venobold~", "susceptib~", "qsm"];
pub(super) const OTHER_BODY: [&str; 17] = [
    "spine~",
    "cspine~",
    "lspine~",
    "tspine~",
    "cervical~",
    "lumbar~",
    "thoracic~",
    "knee~",
    "shoulder~",
    "hip",
    "pelvis~",
    "abdomen~",
    "liver~",
    "prostate~",
    "cardiac~",
    "neck",
    "breast~",
];
pub(super) const PART_OF_HEAD: [&str; 14] = [
    "orbit~",
    "orbita~",
    "iac",
    "iacs",
    "pituitar~",
    "sella~",
    "hypophys~",
    "tmj",
    "cochlea~",
    "kbw",
    "sinus",
    "face",
    "trigemin~",
    "inner ear~",
];
pub(super) const CONTRAST: [&str; 16] = [
    "gd",
    "+gd",
    "gad",
    "gado~",
    "post",
    "postcontrast~",
    "postgd~",
    "post-~",
    "+c",
    "c+",
    "ce",
    "+ce",
    "km",
    "+km",
    "contrast",
    "nach",
];
pub(super) const FLAIR: [&str; 6] = [
    "flair~",
    "darkfl~",
    "dark-fl~",
    "dark_fl~",
    "dark fl~",
    "tirm_tra_dark~",
];
pub(super) const T1: [&str; 16] = [
    "t1",
    "t1w~",
    "t1_~",
    "mprage~",
    "mp-rage~",
    "mp_rage~",
    "mp2rage~",
    "bravo~",
    "spgr~",
    "tfl",
    "tfl3d~",
    "ir-fspgr~",
    "t1-~",
    "3dt1~",
    "t1tfe~",
    "t1_mpr~",
];
pub(super) const STIR: [&str; 1] = ["stir~"];
pub(super) const T2_STAR: [&str; 8] = [
    "t2*", "t2*w", "t2star~", "t2_star~", "hemo", "haemo~", "medic", "t2*_gre",
];
pub(super) const T2: [&str; 5] = ["t2", "t2w~", "t2_~", "t2-~", "3dt2~"];
pub(super) const PD: [&str; 5] = ["pd", "pdw~", "pd_~", "proton~", "pd+t2"];
