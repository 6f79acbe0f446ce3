// Keys, and the deeds of a reader, on the list and on the page of a study. Each page says what a key
// acts on (`page`); every deed is a form's, so the pages work without this.
"use strict";
window.firstread = (() => {
  const form = document.getElementById("act");
  const help = document.getElementById("help");
  const said = document.getElementById("said");
  const problem = document.getElementById("problem");
  const PROBLEM_MS = 12000;
  const DEEDS = { c: "claim", r: "release", m: "read", u: "undo" };
  const DONE = { claim: "Claimed", release: "Released", read: "Marked read", undo: "Back on the list", feedback: "Kept", "hand-over": "Handed over" };
  // target(key): the UID that a deed is for, or why there is none
  const page = { target: () => null, move: () => {}, after: async () => {}, keys: {} };
  let queue = Promise.resolve(), timer = 0;

  // Makes `old` equal to `fresh`, touching only what differs, so that focus and selection stay.
  function patch(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
    if (old.nodeType === Node.TEXT_NODE) { old.data = fresh.data; return; }
    for (const { name } of [...old.attributes]) {
      // what the reader opened stays open
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    }
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    // what the reader is typing or choosing stays
    if (old.nodeName === "INPUT" || old.nodeName === "SELECT") return;
    const theirs = [...fresh.childNodes];
    const ours = [...old.childNodes];
    theirs.forEach((node, i) => ours[i] ? patch(ours[i], node) : old.append(node));
    ours.slice(theirs.length).forEach((node) => node.remove());
  }

  function say(text) { said.textContent = text; }

  function complain(text) {
    clearTimeout(timer);
    problem.textContent = text;
    problem.hidden = false;
    timer = setTimeout(() => { problem.hidden = true; }, PROBLEM_MS);
  }

  async function send(url, data) {
    data.set("quiet", "1");
    try {
      const response = await fetch(url, { method: "POST", body: new URLSearchParams(data), credentials: "same-origin" });
      if (response.ok) { problem.hidden = true; return true; }
      if (response.status === 401) { location.reload(); return false; }
      const told = await response.json().catch(() => null);
      complain(told?.detail ?? "The server could not do this. Try again.");
    } catch {
      complain("The server does not answer. Try again.");
    }
    return false;
  }

  // One deed after the other, in the order of the keys.
  function act(url, data) {
    const [, uid, deed] = new URL(url, location.href).pathname.match(/\/studies\/([^/]+)\/([^/]+)$/) ?? [];
    queue = queue.then(async () => {
      const done = await send(url, data);
      if (done) say(DONE[deed] ?? "Done");
      await page.after(deed, uid, done);
    });
  }

  function deed(key) {
    if (!form) { complain("Your role looks at the list and changes nothing."); return; }
    const target = page.target(key);
    if (target?.uid) act(`/studies/${target.uid}/${DEEDS[key]}`, new FormData(form));
    else complain(target?.why ?? "Choose a study first, with j or k.");
  }

  document.addEventListener("submit", (event) => {
    const { target, submitter } = event;
    const url = submitter?.getAttribute("formaction") ?? target.getAttribute("action");
    if (!url?.startsWith("/studies/")) return;
    event.preventDefault();
    act(url, new FormData(target, submitter));
    if (target !== form) target.reset();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const { key } = event;
    // a key that is held down moves on, but does nothing twice
    if (event.repeat && key !== "j" && key !== "k") return;
    if (key === "j") page.move(1);
    else if (key === "k") page.move(-1);
    else if (key === "?") help.showModal();
    else if (key === "n" && form) document.getElementById("next").requestSubmit();
    else if (page.keys[key]) page.keys[key]();
    else if (key in DEEDS) deed(key);
    else return;
    event.preventDefault();
  });

  // also for what is put into the page later
  document.addEventListener("click", (event) => { if (event.target.closest("[data-keys]")) help.showModal(); });

  return { page, patch, say, complain };
})();
