// The page of a study: keys for its findings, and what others do with it meanwhile.
"use strict";
(() => {
  const { page, patch, complain } = window.firstread;
  const PARTS = ["standing", "work", "findings", "comments", "history"];
  const work = () => document.getElementById("work");
  const { uid } = work().dataset;
  // the list as the reader left it
  const list = new URLSearchParams(sessionStorage.getItem("list") ?? "");
  let busy = false, again = false, ending = 0;

  const address = () => `/worklist?${list}`;
  document.getElementById("back").href = address();
  function fillNext() {
    const next = document.getElementById("next");
    if (next) next.elements.list.value = String(list);
  }

  // A claim that runs out is told by nobody: the page looks again at that moment.
  function watchClaim() {
    clearTimeout(ending);
    const { ends, now } = work().dataset;
    if (ends) ending = setTimeout(refresh, Math.max(1000, Number(ends) - Number(now) + 50));
  }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const response = await fetch(`${location.pathname}?fragment=1`, { credentials: "same-origin", cache: "no-store" });
      if (response.status === 401) { location.reload(); return; }
      if (!response.ok) return;
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const id of PARTS) {
        const part = fresh.getElementById(id);
        if (part) patch(document.getElementById(id), document.adoptNode(part));
      }
      fillNext();
      watchClaim();
    } catch {
      // the next news asks again
    } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  }

  const findings = () => [...document.querySelectorAll("#findings tr[data-finding]")];
  const inHand = () => document.activeElement?.closest("#findings tr[data-finding]");

  function judge(verdict) {
    const row = inHand() ?? findings()[0];
    const button = row?.querySelector(`button[value^="${verdict} "]`);
    if (button) { button.focus(); button.click(); } else complain("There is no finding to judge here.");
  }

  page.target = (key) => {
    const { reading } = work().dataset;
    if (key === "u" && reading !== "read") return { why: "This study is on the list already." };
    return { uid };
  };
  page.move = (by) => {
    const all = findings();
    const at = all.indexOf(inHand());
    all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))]?.querySelector("button")?.focus();
  };
  page.after = async (deed, _, done) => {
    if (deed === "read" && done) {
      list.set("read", uid);
      location.href = address();
    } else await refresh();
  };
  page.keys = {
    a: () => judge("agree"),
    d: () => judge("disagree"),
    v: () => {
      const viewer = document.getElementById("viewer");
      if (viewer) viewer.click(); else complain("No viewer is set up here (web.viewer_url).");
    },
    h: () => {
      const to = document.querySelector(".over select");
      if (to) to.focus(); else complain("This study cannot be handed over.");
    },
    l: () => { location.href = address(); },
    "/": () => { location.href = `${address()}#q`; },
  };

  let events = null;
  // only while it is looked at: a browser has few connections to one server
  function listen() {
    events?.close();
    events = null;
    if (document.hidden) return;
    events = new EventSource("/events");
    events.addEventListener("hello", refresh);
    events.addEventListener("everything", refresh);
    events.addEventListener("studies", (event) => { if (JSON.parse(event.data).study_uids.includes(uid)) refresh(); });
    events.onerror = () => { if (events?.readyState === EventSource.CLOSED) setTimeout(listen, 30000); };
  }
  document.addEventListener("visibilitychange", listen);
  fillNext();
  watchClaim();
  listen();
})();
