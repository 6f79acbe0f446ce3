"""Parses FHIR resources, one a line, with fhir.resources (R4B); prints null, or what is wrong, for each."""

import json
import sys

from fhir.resources.R4B import get_fhir_model_class

for line in sys.stdin:
    resource = json.loads(line)
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        print("null", flush=True)
    except Exception as problem:  # whatever it finds is the answer
        print(json.dumps(str(problem)), flush=True)
