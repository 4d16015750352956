"""Fields in which clusters are named on the page, and the button that saves the names as a file."""

import json

from densessl.data.cluster_names import NAMES_FILE
from densessl.report.contents import Clustering, ClusterStrip
from densessl.report.markup import Html, element

FORM = "cluster-names"

NAMING_SCRIPT = """
const quoted = (name) => JSON.stringify(name.trim()).replace(
  /[\\u007f-\\u009f\\u2028\\u2029\\ufeff\\ufffe\\uffff]/g,
  (sign) => "\\\\u" + sign.charCodeAt(0).toString(16).padStart(4, "0"));
const yamlOfNames = (names) => "# Names of clusters, by their ids in clusters.json\\n" + Object.entries(names)
  .filter(([, name]) => name.trim()).map(([id, name]) => `${id}: ${quoted(name)}\\n`).join("");
const naming = globalThis.document?.getElementById("cluster-names");
if (naming) {
  const fields = document.querySelectorAll("input[data-cluster]");
  for (const part of [naming, ...fields]) part.hidden = false;
  naming.addEventListener("submit", (event) => {
    event.preventDefault();
    const names = JSON.parse(naming.dataset.kept);
    for (const field of fields) names[field.dataset.cluster] = field.value;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([yamlOfNames(names)], { type: "application/yaml" }));
    link.download = naming.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}
"""
"""Shows the fields, which do nothing without it. JSON's strings are YAML's; signs that YAML wants escaped are."""


def naming_form(clustering: Clustering) -> Html:
    """Return the button that saves the fields, hidden until the script runs; names without a field are kept in it."""
    shown = {strip.cluster for strip in clustering.strips}
    kept = {cluster: name for cluster, name in clustering.names.items() if cluster not in shown}
    attributes = {"id": FORM, "class": "naming", "data-file": NAMES_FILE, "data-kept": json.dumps(kept), "hidden": ""}
    text = (
        f"Name clusters in the fields below, save the names, and put the file into the run's folder clusters, beside "
        f"clusters.json, as {NAMES_FILE}: report and predict then show them. Several clusters may share a name."
    )
    button = element("button", {"type": "submit"}, f"Save {NAMES_FILE}")
    return element("form", attributes, element("p", None, text), button)


def name_field(strip: ClusterStrip) -> Html:
    """Return the field for the name of a cluster."""
    attributes = {
        "form": FORM,
        "data-cluster": str(strip.cluster),
        "value": strip.name or "",
        "aria-label": f"Name of cluster {strip.cluster}",
        "placeholder": "name",
        "autocomplete": "off",
        "hidden": "",
    }
    return element("input", attributes)
