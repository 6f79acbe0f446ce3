//! Which objects may be here already: a hint, so that nobody waits for the recorder with a new one.
//!
//! A new object is answered once it is in the log. One that *may* be here already, or of a study
//! that may be another patient's, waits for the recorder's verdict, so that its sender hears of it.
//! The recorder judges every object for itself: what this forgets or never knew is found there.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;

use crate::dicom::header::ObjectHeader;
use crate::store::arrivals::PatientKey;

/// Objects remembered; beyond, all of them are forgotten.
const OBJECTS_MAX: usize = 200_000;

/// Series that objects arrive for.
#[derive(Debug, Default)]
pub struct Known {
    patients: HashMap<String, PatientKey>,
    /// By study and series UID; SOP Instance UIDs as their hashes.
    series: HashMap<(String, String), HashSet<u64>>,
    objects: usize,
    hasher: RandomState,
}

/// Ids differ, or both issuers are given and differ.
#[must_use]
pub fn other_patient(known: &PatientKey, new: &PatientKey) -> bool {
    known.0 != new.0 || matches!((&known.1, &new.1), (Some(a), Some(b)) if a != b)
}

impl Known {
    /// Whether an object may be here already, or may not belong to this patient. Then it is known.
    /// `None` if its series must be [loaded](Known::load) first.
    pub fn doubtful(&mut self, header: &ObjectHeader) -> Option<bool> {
        let key = (header.study_uid.clone(), header.series_uid.clone());
        let objects = self.series.get_mut(&key)?;
        let new = objects.insert(self.hasher.hash_one(&header.sop_instance_uid));
        self.objects += usize::from(new);
        let patient = (header.patient.id.clone(), header.patient.issuer.clone());
        let first = self
            .patients
            .entry(key.0)
            .or_insert_with(|| patient.clone());
        Some(!new || other_patient(first, &patient))
    }

    /// Takes up what the database knows of a series.
    pub fn load(
        &mut self,
        header: &ObjectHeader,
        patient: Option<PatientKey>,
        sop_uids: Vec<String>,
    ) {
        if self.objects + sop_uids.len() > OBJECTS_MAX {
            self.patients.clear();
            self.series.clear();
            self.objects = 0;
        }
        if let Some(patient) = patient {
            self.patients.insert(header.study_uid.clone(), patient);
        }
        let key = (header.study_uid.clone(), header.series_uid.clone());
        let objects = self.series.entry(key).or_default();
        for uid in sop_uids {
            self.objects += usize::from(objects.insert(self.hasher.hash_one(&uid)));
        }
        // a series costs something even without objects
        self.objects += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(study: &str, sop: &str, patient: &str) -> ObjectHeader {
        let mut header = ObjectHeader {
            study_uid: study.into(),
            series_uid: format!("{study}.1"),
            sop_instance_uid: sop.into(),
            ..ObjectHeader::default()
        };
        header.patient.id = Some(patient.into());
        header
    }

    #[test]
    fn only_what_may_be_here_is_doubtful() {
        let mut known = Known::default();
        let mut check = |study, sop, patient, expected| {
            assert_eq!(
                known.doubtful(&header(study, sop, patient)),
                expected,
                "{study} {sop}"
            );
            if expected.is_none() {
                let here = vec!["1.1".to_owned()];
                known.load(&header(study, sop, patient), None, here);
            }
        };
        check("9", "1.1", "A", None);
        check("9", "1.1", "A", Some(true));
        check("9", "1.2", "A", Some(false));
        check("9", "1.2", "A", Some(true));
        check("9", "1.3", "B", Some(true));
        check("8", "1.3", "B", None);
        check("8", "1.3", "B", Some(false));
    }

    #[test]
    fn it_forgets_rather_than_grows() {
        let mut known = Known::default();
        let many = (0..OBJECTS_MAX).map(|n| format!("1.{n}")).collect();
        known.load(&header("1", "", "A"), None, many);
        known.load(
            &header("2", "", "A"),
            None,
            vec!["2.1".into(), "2.2".into()],
        );
        assert_eq!(known.doubtful(&header("1", "1.1", "A")), None);
        assert_eq!(known.doubtful(&header("2", "2.1", "A")), Some(true));
        assert!(known.objects < 10);
    }
}
