//! What analysis and ranking say in English, and how German says it.

/// Sentences with `{}` where they vary; what stands there is translated in turn. The first that
/// fits is taken.
pub(super) const SENTENCES: &[(&str, &str)] = &[
    ("screening", "Screening"),
    ("ordered STAT", "als Notfall (STAT) angefordert"),
    ("ordered ASAP", "als dringend (ASAP) angefordert"),
    (
        "not analysed: ranked as an average study ({})",
        "nicht ausgewertet: wie eine durchschnittliche Untersuchung eingereiht ({})",
    ),
    (
        "not screened yet: ranked as an average study",
        "noch nicht gesichtet: wie eine durchschnittliche Untersuchung eingereiht",
    ),
    (
        "a region of {} ml in the {} differs from what is expected",
        "eine Region von {} ml in der {} weicht vom Erwarteten ab",
    ),
    (
        "{} regions, {} ml together, differ from what is expected",
        "{} Regionen, zusammen {} ml, weichen vom Erwarteten ab",
    ),
    (
        "1 region, {} ml together, differ from what is expected",
        "1 Region von {} ml weicht vom Erwarteten ab",
    ),
    ("{} above the 99th percentile", "{} über der 99. Perzentile"),
    ("{} above the 97th percentile", "{} über der 97. Perzentile"),
    ("{} above the 95th percentile", "{} über der 95. Perzentile"),
    ("{} below the 1st percentile", "{} unter der 1. Perzentile"),
    ("{} below the 3rd percentile", "{} unter der 3. Perzentile"),
    ("{} below the 5th percentile", "{} unter der 5. Perzentile"),
    ("lateral ventricles", "Seitenventrikel"),
    ("third ventricle", "dritter Ventrikel"),
    ("fourth ventricle", "vierter Ventrikel"),
    ("hippocampus", "Hippocampus"),
    ("left half", "linken Hälfte"),
    ("right half", "rechten Hälfte"),
    ("head", "Aufnahme des Kopfes"),
    ("age unknown", "Alter unbekannt"),
    ("sex unknown", "Geschlecht unbekannt"),
    (
        "outside validated ages (18-90 years)",
        "außerhalb der geprüften Altersgrenzen (18 bis 90 Jahre)",
    ),
    ("no norm for {}", "keine Normwerte für {}"),
    (
        "volume of {} is not a positive number",
        "das Volumen von {} ist keine positive Zahl",
    ),
    (
        "coarse volume: this network's offset for it is not measured",
        "grobes Volumen: die Abweichung dieses Netzes von der Norm ist nicht gemessen",
    ),
    ("not part of this version", "nicht Teil dieser Version"),
    ("does not look like a head", "sieht nicht wie ein Kopf aus"),
    ("no usable MR series", "keine brauchbare MR-Serie"),
    ("no T1 series", "keine T1-Serie"),
    (
        "{}; 1 other series not analysed",
        "{}; 1 weitere Serie nicht ausgewertet",
    ),
    (
        "{}; {} other series not analysed",
        "{}; {} weitere Serien nicht ausgewertet",
    ),
    ("periventricular", "periventrikulär"),
    ("juxtacortical", "juxtakortikal"),
    ("infratentorial", "infratentoriell"),
    ("deep", "tiefe weiße Substanz"),
    ("Not flagged", "Nicht markiert"),
    ("Elevated", "Erhöht"),
    ("Urgent", "Dringend"),
    ("Critical", "Kritisch"),
    ("brain", "Gehirn"),
    ("thalamus", "Thalamus"),
    ("middle", "Mitte"),
    (
        "a bright region of {} ml in the {} on FLAIR",
        "eine helle Region von {} ml in der {} auf FLAIR",
    ),
    (
        "1 lesion of white matter, {} ml together",
        "1 Läsion der weißen Substanz von {} ml",
    ),
    (
        "{} lesions of white matter, {} ml together",
        "{} Läsionen der weißen Substanz, zusammen {} ml",
    ),
    (
        "lowered from {} after volumetry",
        "nach der Volumetrie herabgestuft, vorher {}",
    ),
    ("critical", "kritisch"),
    ("urgent", "dringend"),
    ("elevated", "erhöht"),
    (
        "turned off by analysis.volumetry",
        "ausgeschaltet durch analysis.volumetry",
    ),
    (
        "no network for it is installed",
        "es ist kein Netz dafür installiert",
    ),
    ("not screened", "nicht gesichtet"),
    ("not screened yet", "noch nicht gesichtet"),
    ("no FLAIR", "keine FLAIR-Serie"),
    ("doubtful: {}", "zweifelhaft: {}"),
    ("failed: {}", "fehlgeschlagen: {}"),
    (
        "this network's offset for it is not measured",
        "die Abweichung dieses Netzes von der Norm ist dafür nicht gemessen",
    ),
    ("deep white matter", "tiefe weiße Substanz"),
    (
        "voxels are {} mm long: small structures are doubtful",
        "Voxel sind {} mm lang: kleine Strukturen sind zweifelhaft",
    ),
    (
        "contrast agent was given: cortex and vessels may be told apart badly",
        "Kontrastmittel wurde gegeben: Rinde und Gefäße sind womöglich schlecht zu unterscheiden",
    ),
    (
        "the picture does not look like a {}",
        "das Bild sieht nicht wie eine {}-Aufnahme aus",
    ),
    (
        "called {}, but the picture looks like {}",
        "als {} bezeichnet, das Bild sieht aber wie {} aus",
    ),
    (
        "volumes were measured on {}; norms are made from T1",
        "die Volumina wurden an {} gemessen; die Normwerte stammen aus T1-Bildern",
    ),
    ("the picture looks like {}", "das Bild sieht wie {} aus"),
    (
        "the picture ends within the brain below",
        "das Bild endet unten innerhalb des Gehirns",
    ),
    (
        "the picture ends within the brain above",
        "das Bild endet oben innerhalb des Gehirns",
    ),
    (
        "the picture ends within the brain in the back",
        "das Bild endet hinten innerhalb des Gehirns",
    ),
    (
        "the picture ends within the brain in the front",
        "das Bild endet vorn innerhalb des Gehirns",
    ),
    (
        "the picture ends within the brain on the left",
        "das Bild endet links innerhalb des Gehirns",
    ),
    (
        "the picture ends within the brain on the right",
        "das Bild endet rechts innerhalb des Gehirns",
    ),
    (
        "the network is unsure: mean probability {}",
        "das Netz ist unsicher: mittlere Wahrscheinlichkeit {}",
    ),
    (
        "the network is unsure of {}",
        "das Netz ist unsicher bei: {}",
    ),
    (
        "intracranial volume of {} ml",
        "intrakranielles Volumen von {} ml",
    ),
    (
        "brain fills {} % of the intracranial volume",
        "das Gehirn füllt {} % des intrakraniellen Volumens",
    ),
    ("lesions of {} ml on FLAIR", "Läsionen von {} ml auf FLAIR"),
    (
        "{} differs by {} % between the sides, larger on the left",
        "{}: die Seiten unterscheiden sich um {} %, links größer",
    ),
    (
        "{} differs by {} % between the sides, larger on the right",
        "{}: die Seiten unterscheiden sich um {} %, rechts größer",
    ),
    (
        "left and right are not where they belong",
        "links und rechts liegen nicht, wo sie hingehören",
    ),
    ("in several pieces: {}", "in mehreren Stücken: {}"),
    ("FLAIR: {}", "FLAIR: {}"),
    (
        "{}, segmenter offsets from {} healthy scans, {}",
        "{}, Abweichung des Netzes aus {} Aufnahmen Gesunder, {}",
    ),
    (
        "{}, segmenter offsets not measured, {}",
        "{}, Abweichung des Netzes nicht gemessen, {}",
    ),
    ("scanner uncalibrated", "Gerät nicht kalibriert"),
    ("scanner calibration {}", "Kalibrierung des Geräts Nr. {}"),
    ("the series has no images", "die Serie enthält keine Bilder"),
    ("there is only one slice", "es gibt nur eine Schicht"),
    ("no brain was found", "es wurde kein Gehirn gefunden"),
    (
        "too few slices: {}, at least {} are needed",
        "zu wenige Schichten: {}, mindestens {} sind nötig",
    ),
    (
        "the field of view of {} is too small to show the brain",
        "das Bildfeld von {} ist zu klein für das Gehirn",
    ),
    (
        "the field of view of {} is too large for a head",
        "das Bildfeld von {} ist zu groß für einen Kopf",
    ),
    (
        "the slices are {} mm apart, too far to measure anything",
        "die Schichten liegen {} mm auseinander, zu weit, um etwas zu messen",
    ),
    (
        "the images hold values that are no numbers",
        "die Bilder enthalten Werte, die keine Zahlen sind",
    ),
    (
        "the images are empty: every pixel has the same value",
        "die Bilder sind leer: jedes Pixel hat denselben Wert",
    ),
    (
        "all {} images lie at the same place",
        "alle {} Bilder liegen an derselben Stelle",
    ),
    (
        "the images point in different directions (a localiser, or several stacks in one series)",
        "die Bilder haben verschiedene Richtungen (eine Übersichtsaufnahme, oder mehrere Stapel in einer Serie)",
    ),
    (
        "the images have different sizes or pixel spacings",
        "die Bilder haben verschiedene Größen oder Pixelabstände",
    ),
    (
        "{} images lie where another image already lies, and nothing in their headers tells them apart",
        "{} Bilder liegen, wo schon ein anderes liegt, und nichts in ihren Kopfdaten unterscheidet sie",
    ),
    (
        "the stack of slices is slanted by {} degrees (gantry tilt)",
        "der Schichtstapel ist um {} Grad geneigt (Gantry)",
    ),
    (
        "the slices do not lie one above the other on a straight line",
        "die Schichten liegen nicht auf einer Geraden übereinander",
    ),
    (
        "missing slice: gap of {} mm between slices {} and {} of {}, where the others are {} mm apart",
        "fehlende Schicht: Lücke von {} mm zwischen den Schichten {} und {} von {}; die anderen liegen {} mm auseinander",
    ),
    (
        "uneven slices: {} mm between slices {} and {} of {}, where the others are {} mm apart",
        "ungleiche Schichten: {} mm zwischen den Schichten {} und {} von {}; die anderen liegen {} mm auseinander",
    ),
    (
        "an image has no rows or no columns",
        "ein Bild hat keine Zeilen oder keine Spalten",
    ),
    (
        "the pixel spacing of {} x {} mm cannot be right",
        "der Pixelabstand von {} x {} mm kann nicht stimmen",
    ),
    (
        "an image's position in the patient cannot be right",
        "die Lage eines Bildes im Patienten kann nicht stimmen",
    ),
    (
        "an image's orientation in the patient cannot be right (not square)",
        "die Ausrichtung eines Bildes im Patienten kann nicht stimmen (nicht rechtwinklig)",
    ),
    (
        "no object of the series holds a picture",
        "kein Objekt der Serie enthält ein Bild",
    ),
    (
        "mosaic: many slices are tiled into each picture (functional or diffusion)",
        "Mosaik: in jedem Bild liegen viele Schichten nebeneinander (funktionell oder Diffusion)",
    ),
    (
        "colour pictures, not scanner images",
        "Farbbilder, keine Bilder eines Geräts",
    ),
    (
        "the images do not say where they lie in the patient (screen captures or reports?)",
        "die Bilder sagen nicht, wo im Patienten sie liegen (Bildschirmfotos oder Berichte?)",
    ),
    (
        "the images do not say how they are turned in the patient (screen captures or reports?)",
        "die Bilder sagen nicht, wie sie im Patienten ausgerichtet sind (Bildschirmfotos oder Berichte?)",
    ),
    (
        "the volume would be larger than the limit of {} voxels",
        "das Volumen wäre größer als die Grenze von {} Voxeln",
    ),
    (
        "an image has fewer pixels than it says",
        "ein Bild hat weniger Pixel, als es angibt",
    ),
    // Last: it fits much.
    ("{} of {} ml", "{} von {} ml"),
];
