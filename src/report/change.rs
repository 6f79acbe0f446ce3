//! Change since the patient's earlier study, as report and study page say it. Pure.

use super::lines::capital;
use super::{Language, names};
use crate::followup::{
    Change, ChangedLesion, Doubt, FollowUp, LesionChange, NoLesions, NotCompared, Standing,
};

/// Structures that a report lists whatever became of them; others where they stand out.
const ALWAYS: [&str; 7] = [
    BRAIN,
    "total cerebral white matter",
    "total cerebral cortex",
    "total lateral ventricle",
    "3rd ventricle",
    "total thalamus",
    "total hippocampus",
];
/// The norm table's name of the brain.
const BRAIN: &str = "brain (no ventricles, no csf)";
/// Others that a report lists, those that changed most.
const OTHERS_MAX: usize = 4;
/// New and enlarged lesions that a report names one by one.
const LESIONS_MAX: usize = 3;
const DAYS_PER_YEAR: f64 = 365.25;

/// The part of a report about change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Its heading.
    pub heading: &'static str,
    /// What is compared, what makes that doubtful, what became of lesions; or why nothing is.
    pub lines: Vec<String>,
    /// Headings of the table: structure, six numbers, how it stands.
    pub columns: [&'static str; 8],
    /// Structures.
    pub rows: Vec<ChangeRow>,
    /// What the limit is, and what is not listed.
    pub notes: Vec<String>,
}

/// A structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// Structure.
    pub name: String,
    /// ml before and now; percent between the scans and a year; of healthy people a year; limit.
    /// Empty where there is none.
    pub cells: [String; 6],
    /// Against limit and ageing.
    pub standing: &'static str,
    /// More than limit, and than ageing where that is known.
    pub stands_out: bool,
}

/// What changed, or why nothing was compared.
pub(super) fn changes(
    follow_up: Option<&FollowUp>,
    not_compared: Option<NotCompared>,
    language: Language,
) -> Changes {
    let heading = language.say(
        "Change since the earlier study",
        "Veränderung seit der früheren Untersuchung",
    );
    let mut all = Changes {
        heading,
        lines: Vec::new(),
        columns: columns(language),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    let Some(f) = follow_up else {
        let why = not_compared.map_or_else(
            || {
                language.say(
                    "No earlier measured study of this patient is here.",
                    "Es liegt keine frühere vermessene Untersuchung dieser Person vor.",
                )
            },
            |why| self::not_compared(why, language),
        );
        all.lines.push(why.to_owned());
        return all;
    };
    all.lines.push(compared_with(f, language));
    all.lines.extend(f.doubts.iter().map(|doubt| {
        let text = self::doubt(doubt, language);
        language.say(
            format!("Doubtful: {text}."),
            format!("Zweifelhaft: {text}."),
        )
    }));
    match (&f.lesions, f.no_lesions) {
        (Some(change), _) => {
            all.lines.push(lesions(change, language).join(" "));
            let named = changed_lesions(change, LESIONS_MAX, language);
            all.lines
                .extend(named.into_iter().map(|l| l.sentence(language)));
        }
        (None, Some(why)) => {
            let why = no_lesions(why, language);
            all.lines.push(language.say(
                format!("Lesions were not compared: {why}."),
                format!("Läsionen wurden nicht verglichen: {why}."),
            ));
        }
        (None, None) => {}
    }
    all.rows = listed(f).into_iter().map(|c| row(c, language)).collect();
    all.notes.push(limits(f, language));
    if f.changes.iter().all(|c| c.percent_per_year.is_none()) {
        all.notes.push(too_close(language).to_owned());
    }
    all
}

/// "Compared with the study of 2024-11-22, 2.0 years before."
fn compared_with(f: &FollowUp, language: Language) -> String {
    let (date, interval) = (language.date(&f.prior_date), interval(f.days, language));
    let others = f.earlier.len().saturating_sub(1);
    let more = match (others, language) {
        (0, _) => String::new(),
        (1, Language::En) => " 1 more earlier scan is on the curves.".into(),
        (n, Language::En) => format!(" {n} more earlier scans are on the curves."),
        (1, Language::De) => " 1 weitere frühere Aufnahme steht auf den Kurven.".into(),
        (n, Language::De) => format!(" {n} weitere frühere Aufnahmen stehen auf den Kurven."),
    };
    language.say(
        format!("Compared with the study of {date}, {interval} before.{more}"),
        format!("Verglichen mit der Untersuchung vom {date}, {interval} zuvor.{more}"),
    )
}

fn columns(language: Language) -> [&'static str; 8] {
    language.say(
        [
            "Structure",
            "ml before",
            "ml now",
            "change %",
            "% a year",
            "healthy: % a year",
            "limit ± %",
            "The change is",
        ],
        [
            "Struktur",
            "ml vorher",
            "ml jetzt",
            "Änderung %",
            "% im Jahr",
            "Gesunde: % im Jahr",
            "Grenze ± %",
            "Die Änderung ist",
        ],
    )
}

/// Those that are always listed, in their order, and others that stand out, the largest changes first.
fn listed(f: &FollowUp) -> Vec<&Change> {
    let of = |name: &&str| f.changes.iter().find(|c| c.structure == **name);
    let mut all: Vec<&Change> = ALWAYS.iter().filter_map(of).collect();
    let mut others: Vec<&Change> = f
        .changes
        .iter()
        .filter(|c| stands_out(c.standing) && !ALWAYS.contains(&c.structure.as_str()))
        .collect();
    others.sort_by(|a, b| b.percent.abs().total_cmp(&a.percent.abs()));
    all.extend(others.into_iter().take(OTHERS_MAX));
    all
}

fn row(c: &Change, language: Language) -> ChangeRow {
    let maybe = |value: Option<f64>| value.map(|v| language.signed(v)).unwrap_or_default();
    ChangeRow {
        name: name(&c.structure, language),
        cells: [
            language.millilitres(c.prior_mm3),
            language.millilitres(c.present_mm3),
            language.signed(c.percent),
            maybe(c.percent_per_year),
            maybe(c.expected_percent_per_year),
            language.number(c.limit_percent, 1),
        ],
        standing: standing(c.standing, language),
        stands_out: stands_out(c.standing),
    }
}

fn name(structure: &str, language: Language) -> String {
    match structure {
        BRAIN => language.say("Brain tissue", "Hirngewebe").to_owned(),
        "all ventricles" => language.say("All ventricles", "Alle Ventrikel").to_owned(),
        _ => capital(&names::said(structure, language)),
    }
}

/// Whether a change is more than what says nothing.
#[must_use]
pub fn stands_out(standing: Standing) -> bool {
    matches!(standing, Standing::BeyondAgeing | Standing::BeyondLimit)
}

/// How a change stands.
#[must_use]
pub fn standing(standing: Standing, language: Language) -> &'static str {
    match standing {
        Standing::WithinLimit => language.say("within the limit", "innerhalb der Grenze"),
        Standing::AsAgeing => language.say("as healthy people age", "wie bei alternden Gesunden"),
        Standing::BeyondAgeing => language.say("beyond limit and ageing", "über Grenze und Altern"),
        Standing::BeyondLimit => language.say("beyond the limit", "über der Grenze"),
    }
}

/// "2.0 years", or days where they are few.
#[must_use]
pub fn interval(days: i64, language: Language) -> String {
    if days < 90 {
        let one = days == 1;
        return language.say(
            format!("{days} {}", if one { "day" } else { "days" }),
            format!("{days} {}", if one { "Tag" } else { "Tage" }),
        );
    }
    let years = language.number(days as f64 / DAYS_PER_YEAR, 1);
    language.say(format!("{years} years"), format!("{years} Jahre"))
}

/// What the limit is, and what it rests on.
#[must_use]
pub fn limits(f: &FollowUp, language: Language) -> String {
    let pairs = f.limit_pairs;
    let counted = language.say(
        format!("{pairs} {}", if pairs == 1 { "pair" } else { "pairs" }),
        format!("{pairs} {}", if pairs == 1 { "Paar" } else { "Paaren" }),
    );
    let what = language.say(
        "The limit is what two scans of an unchanged person differ by, in 95 of 100 cases",
        "Die Grenze ist, worum sich zwei Aufnahmen einer unveränderten Person in 95 von 100 Fällen \
         höchstens unterscheiden",
    );
    let literature = language.say(
        "of the literature (Maclaren 2014, the largest there)",
        "der Literatur (Maclaren 2014, die größte dort)",
    );
    match (pairs, f.default_limits) {
        (0, _) => language.say(
            format!("{what}. It is not measured for this network yet: that {literature} stands in."),
            format!("{what}. Für dieses Netz ist sie noch nicht gemessen: es gilt jene {literature}."),
        ),
        (_, true) => language.say(
            format!("{what}. It rests on {counted} of scans with this network, and on that {literature} where that is larger."),
            format!("{what}. Sie beruht auf {counted} von Aufnahmen mit diesem Netz, und auf jener {literature}, wo diese größer ist."),
        ),
        (_, false) => language.say(
            format!("{what}, measured on {counted} of scans with this network."),
            format!("{what}, gemessen an {counted} von Aufnahmen mit diesem Netz."),
        ),
    }
}

fn too_close(language: Language) -> &'static str {
    language.say(
        "The studies are too close together for a change a year.",
        "Die Untersuchungen liegen für eine Änderung im Jahr zu nahe beieinander.",
    )
}

/// What makes a comparison doubtful.
#[must_use]
pub fn doubt(doubt: &Doubt, language: Language) -> String {
    match doubt {
        Doubt::OtherScanner => language
            .say(
                "another scanner: scanners differ by more than years do",
                "ein anderes Gerät: Geräte unterscheiden sich um mehr als Jahre",
            )
            .to_owned(),
        Doubt::OtherContrast => language
            .say(
                "the two scans differ in contrast, or contrast agent was given in one",
                "die Aufnahmen unterscheiden sich im Kontrast, oder bei einer wurde Kontrastmittel gegeben",
            )
            .to_owned(),
        Doubt::DoubtfulMeasurement => language
            .say(
                "one of the two measurements is doubtful itself",
                "eine der beiden Messungen ist selbst zweifelhaft",
            )
            .to_owned(),
        Doubt::HeadSize { percent } => {
            let percent = language.signed(*percent);
            language.say(
                format!("the intracranial volumes differ by {percent} %, which heads do not"),
                format!("die intrakraniellen Volumina unterscheiden sich um {percent} %; Köpfe ändern sich nicht"),
            )
        }
    }
}

/// Sentences about lesions.
#[must_use]
pub fn lesions(l: &LesionChange, language: Language) -> Vec<String> {
    let many = |count: usize, one: &str, more: &str| {
        format!("{count} {}", if count == 1 { one } else { more })
    };
    let (enlarged, smaller, stable, gone) = (
        l.enlarged_count,
        l.smaller_count,
        l.stable_count,
        l.gone_count,
    );
    let (before, now) = (
        language.number(l.prior_mm3 / 1000.0, 2),
        language.number(l.present_mm3 / 1000.0, 2),
    );
    let new = language.say(
        many(l.new_count, "new lesion", "new lesions"),
        many(l.new_count, "neue Läsion", "neue Läsionen"),
    );
    let mut all = vec![
        language.say(
            format!("{new}, {enlarged} enlarged; {smaller} smaller, {stable} unchanged, {gone} no longer marked."),
            format!("{new}, {enlarged} vergrößert; {smaller} kleiner, {stable} unverändert, {gone} nicht mehr markiert."),
        ),
        language.say(
            format!("All lesions together: {before} ml before, {now} ml now."),
            format!("Alle Läsionen zusammen: vorher {before} ml, jetzt {now} ml."),
        ),
    ];
    if l.not_covered_count > 0 {
        let count = l.not_covered_count;
        all.push(language.say(
            format!(
                "{} outside the other picture and {} not compared.",
                many(count, "lesion lies", "lesions lie"),
                if count == 1 { "was" } else { "were" }
            ),
            format!(
                "{} außerhalb des anderen Bildes und {} nicht verglichen.",
                many(count, "Läsion liegt", "Läsionen liegen"),
                if count == 1 { "wurde" } else { "wurden" }
            ),
        ));
    }
    all
}

/// A lesion that is new or grew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LesionRow {
    /// New, or enlarged.
    pub what: &'static str,
    /// Side, region, place.
    pub place: String,
    /// ml; empty for a new one.
    pub before: String,
    /// ml
    pub now: String,
}

impl LesionRow {
    fn sentence(&self, language: Language) -> String {
        let (what, place, now) = (capital(self.what), &self.place, &self.now);
        if self.before.is_empty() {
            return format!("{what}: {place}, {now} ml.");
        }
        let before = &self.before;
        language.say(
            format!("{what}: {place}, {before} ml before, {now} ml now."),
            format!("{what}: {place}, vorher {before} ml, jetzt {now} ml."),
        )
    }
}

/// New and enlarged lesions, at most so many of each.
#[must_use]
pub fn changed_lesions(l: &LesionChange, max: usize, language: Language) -> Vec<LesionRow> {
    let ml = |mm3: f64| language.number(mm3 / 1000.0, 2);
    let of = |what, list: &[ChangedLesion]| -> Vec<LesionRow> {
        let shown = list.iter().take(max);
        shown
            .map(|c| LesionRow {
                what,
                place: place(c, language),
                before: if c.prior_mm3 > 0.0 {
                    ml(c.prior_mm3)
                } else {
                    String::new()
                },
                now: ml(c.present_mm3),
            })
            .collect()
    };
    let mut all = of(language.say("new", "neu"), &l.new);
    all.extend(of(language.say("enlarged", "vergrößert"), &l.enlarged));
    all
}

/// Side and region, and where that is, mm to the patient's right, to the front and upwards.
fn place(c: &ChangedLesion, language: Language) -> String {
    let side = c.side.as_deref().map(|side| match side {
        "left" => language.say("left", "links"),
        "right" => language.say("right", "rechts"),
        _ => language.say("in the middle", "in der Mitte"),
    });
    let region = c.region.map(|r| language.sentence(r.name()));
    let named: Vec<String> = [side.map(str::to_owned), region]
        .into_iter()
        .flatten()
        .collect();
    let [x, y, z] = c.centre_mm.map(|mm| language.number(mm, 0));
    let at = language.say(
        format!("at {x}, {y}, {z} mm"),
        format!("bei {x}; {y}; {z} mm"),
    );
    if named.is_empty() {
        at
    } else {
        format!("{}, {at}", named.join(language.say(" ", ", ")))
    }
}

/// Why lesions were not compared.
#[must_use]
pub fn no_lesions(why: NoLesions, language: Language) -> &'static str {
    match why {
        NoLesions::NoFlair => language.say(
            "no FLAIR in this study",
            "keine FLAIR-Serie in dieser Untersuchung",
        ),
        NoLesions::NoFlairBefore => language.say(
            "no FLAIR in the earlier study",
            "keine FLAIR-Serie in der früheren Untersuchung",
        ),
        NoLesions::NotKept => language.say(
            "a label map is not kept any more",
            "eine Segmentierung ist nicht mehr vorhanden",
        ),
        NoLesions::NotRegistered => language.say(
            "the two heads could not be brought together",
            "die beiden Köpfe ließen sich nicht zur Deckung bringen",
        ),
    }
}

/// Why nothing is compared.
#[must_use]
pub fn not_compared(why: NotCompared, language: Language) -> &'static str {
    match why {
        NotCompared::OtherNetwork => language.say(
            "Earlier studies of this patient are here, but another network measured them: their \
             volumes cannot be compared with these.",
            "Frühere Untersuchungen liegen vor, aber ein anderes Netz hat sie vermessen: ihre \
             Volumina sind mit diesen nicht vergleichbar.",
        ),
        NotCompared::OtherPerson => language.say(
            "Earlier studies under this patient number are here, but birth date or sex differ: they \
             were not compared.",
            "Unter dieser Patientennummer liegen frühere Untersuchungen vor, aber Geburtsdatum oder \
             Geschlecht weichen ab: sie wurden nicht verglichen.",
        ),
    }
}

/// What is said of one structure where there is room for a sentence only.
#[must_use]
pub fn in_a_sentence(c: &Change, prior_date: &str, language: Language) -> String {
    let date = language.date(prior_date);
    let percent = language.signed(c.percent);
    let limit = language.number(c.limit_percent, 1);
    let year = c.percent_per_year.map(|p| language.signed(p));
    let healthy = c.expected_percent_per_year.map(|p| language.signed(p));
    let mut rates = String::new();
    if let Some(year) = year {
        rates += &language.say(format!(", {year} % a year"), format!(", {year} % im Jahr"));
    }
    if let Some(healthy) = healthy {
        rates += &language.say(
            format!(" (healthy people {healthy})"),
            format!(" (Gesunde {healthy})"),
        );
    }
    let standing = standing(c.standing, language);
    language.say(
        format!("since {date}: {percent} %{rates}; test-retest limit {limit} %; {standing}"),
        format!(
            "seit {date}: {percent} %{rates}; Grenze der Wiederholbarkeit {limit} %; {standing}"
        ),
    )
}

#[cfg(test)]
mod tests;
