"""Training framework of firstread: images generated from label maps, no annotated scans."""
