// Keeps the open list fresh without taking the reader's place: rows are patched by study UID,
// the row in hand (focused, under the pointer, or at the top of the view) never moves on screen.
"use strict";
(() => {
  const live = document.getElementById("live");
  const above = document.getElementById("above");
  const { page, patch, say } = window.firstread;
  const REFRESH_GAP_MS = 500;      // at most one fetch in so long
  const REFRESH_ANYWAY_MS = 30000; // also when nothing is told
  const FRESH_MS = 20000;          // how long a new row is marked
  let clockAhead = Date.now() - Number(live.dataset.now);
  let unseen = new Set();
  let wanted = false, fetching = false, last = 0, timer = 0, ending = 0, fetched = Promise.resolve();

  const rows = () => document.getElementById("rows");
  const now = () => Date.now() - clockAhead;

  function waiting(ms) {
    const m = Math.max(0, Math.floor(ms / 60000));
    if (m < 60) return `${m} min`;
    if (m < 1440) return `${Math.floor(m / 60)} h ${String(m % 60).padStart(2, "0")} min`;
    return `${Math.floor(m / 1440)} d ${Math.floor(m % 1440 / 60)} h`;
  }

  function tick() {
    for (const el of live.querySelectorAll("[data-since]")) {
      const text = waiting(now() - Number(el.dataset.since));
      if (el.textContent !== text) el.textContent = text;
    }
    for (const el of live.querySelectorAll("[data-due]")) {
      const left = Number(el.dataset.due) - now();
      const text = left < 0 ? `overdue ${waiting(-left)}` : `due in ${waiting(left)}`;
      const urgency = left < 0 ? "late" : now() >= Number(el.dataset.soon) ? "soon" : "ample";
      if (el.textContent !== text) el.textContent = text;
      if (!el.classList.contains(urgency)) el.className = `sub due ${urgency}`;
    }
  }

  // A claim that runs out is told by nobody: the list looks again at that moment.
  function watchClaims() {
    clearTimeout(ending);
    const ends = [...live.querySelectorAll("[data-ends]")].map((el) => Number(el.dataset.ends));
    const left = Math.min(...ends) - now();
    if (left < REFRESH_ANYWAY_MS) ending = setTimeout(ask, Math.max(REFRESH_GAP_MS, left + 50));
  }

  function rowInHand() {
    const focused = document.activeElement?.closest("#rows tr");
    if (focused) return focused;
    const hovered = rows().querySelector("tr:hover");
    if (hovered) return hovered;
    if (window.scrollY < 4) return null;
    const top = rows().previousElementSibling.getBoundingClientRect().bottom;
    return [...rows().rows].find((row) => row.getBoundingClientRect().bottom > Math.max(top, 80)) ?? null;
  }

  // Puts the rows into their new order around the one in hand, which itself is not taken out.
  function arrange(fresh) {
    const body = rows();
    const known = new Map([...body.rows].map((row) => [row.dataset.uid, row]));
    const pivot = rowInHand();
    const before = pivot?.getBoundingClientRect().top;
    const added = [];
    const wantedRows = fresh.map((row) => {
      const uid = row.dataset.uid;
      const old = known.get(uid);
      known.delete(uid);
      if (!old) { added.push(row); return row; }
      const wasFresh = old.classList.contains("fresh");
      patch(old, row);
      if (wasFresh) old.classList.add("fresh");
      return old;
    });
    for (const [, row] of known) if (row !== pivot) row.remove();
    const at = wantedRows.indexOf(pivot);
    if (at < 0) {
      // the row in hand left this page: the one that takes its place is in hand now
      const place = pivot ? pivot.sectionRowIndex : -1;
      const focused = pivot?.contains(document.activeElement);
      pivot?.remove();
      wantedRows.forEach((row, i) => { if (body.rows[i] !== row) body.insertBefore(row, body.rows[i] ?? null); });
      if (focused) body.rows[Math.min(place, body.rows.length - 1)]?.querySelector("a.open").focus({ preventScroll: true });
    } else {
      for (const row of wantedRows.slice(0, at)) body.insertBefore(row, pivot);
      let behind = pivot;
      for (const row of wantedRows.slice(at + 1)) { if (behind.nextElementSibling !== row) behind.after(row); behind = row; }
      const moved = pivot.getBoundingClientRect().top - before;
      if (moved) window.scrollBy({ top: moved, behavior: "instant" });
    }
    for (const row of added) mark(row);
    return added;
  }

  function mark(row) {
    row.classList.add("fresh");
    setTimeout(() => row.classList.remove("fresh"), FRESH_MS);
    if (row.getBoundingClientRect().bottom < 80) unseen.add(row.dataset.uid);
    tellAbove();
  }

  function tellAbove() {
    for (const uid of unseen) {
      const row = rows().querySelector(`tr[data-uid="${CSS.escape(uid)}"]`);
      if (!row || row.getBoundingClientRect().bottom >= 80) unseen.delete(uid);
    }
    above.hidden = unseen.size === 0;
    above.textContent = `${unseen.size} new above`;
  }

  function refresh() { return fetched = fetchList(); }

  async function fetchList() {
    wanted = false; fetching = true; last = Date.now();
    try {
      const url = new URL(location.href);
      url.searchParams.set("fragment", "1");
      const response = await fetch(url, { credentials: "same-origin", cache: "no-store" });
      if (response.status === 401) { location.reload(); return; }
      if (!response.ok) throw new Error(`status ${response.status}`);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const top = page.getElementById("top");
      clockAhead = Date.now() - Number(top.dataset.now);
      const pivotTop = rowInHand();
      const before = pivotTop?.getBoundingClientRect().top;
      patch(document.getElementById("top"), document.adoptNode(top));
      patch(document.getElementById("bottom"), document.adoptNode(page.getElementById("bottom")));
      const added = arrange([...page.getElementById("rows").rows].map((row) => document.adoptNode(row)));
      if (pivotTop?.isConnected && before !== undefined) {
        const moved = pivotTop.getBoundingClientRect().top - before;
        if (moved) window.scrollBy({ top: moved, behavior: "instant" });
      }
      if (added.length) say(`${added.length} new in the list`);
      live.classList.remove("stale");
      tick();
      watchClaims();
    } catch {
      live.classList.add("stale");
    } finally {
      fetching = false;
      if (wanted) ask();
    }
  }

  function ask() {
    wanted = true;
    if (fetching || timer) return;
    timer = setTimeout(() => { timer = 0; if (!fetching) refresh(); }, Math.max(0, last + REFRESH_GAP_MS - Date.now()));
  }

  function listen() {
    const events = new EventSource("/events");
    for (const name of ["hello", "studies", "everything"]) events.addEventListener(name, ask);
    events.onerror = () => {
      // turned away (busy, signed out): the browser does not try again by itself
      if (events.readyState === EventSource.CLOSED) { ask(); setTimeout(listen, REFRESH_ANYWAY_MS); }
    };
  }

  function move(by) {
    const all = [...rows().rows];
    const at = all.indexOf(document.activeElement?.closest("#rows tr"));
    const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))];
    focusOn(next);
  }

  function focusOn(row) {
    const link = row?.querySelector("a.open");
    if (!link) return;
    link.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
    const hidden = 84 - row.getBoundingClientRect().top;
    if (hidden > 0) window.scrollBy({ top: -hidden, behavior: "instant" });
  }

  page.move = move;
  page.target = (key) => {
    if (key === "u") {
      const uid = document.getElementById("undo")?.dataset.uid;
      return uid ? { uid } : { why: "There is nothing to undo on this page." };
    }
    return { uid: document.activeElement?.closest("#rows tr")?.dataset.uid };
  };
  page.after = async (deed, uid, done) => {
    if (done && (deed === "read" || deed === "undo")) {
      const url = new URL(location.href);
      url.searchParams.delete("none");
      if (deed === "read") url.searchParams.set("read", uid); else url.searchParams.delete("read");
      history.replaceState(null, "", url);
    }
    await fetched;
    await refresh();
    // what was put back is in hand again, and so is the row whose button went away under the pointer
    if (done && (deed === "undo" || document.activeElement === document.body)) focusOn([...rows().rows].find((row) => row.dataset.uid === uid));
  };
  page.keys = {
    "/": () => document.getElementById("q").focus(),
    f: () => {
      const filters = document.getElementById("filters");
      filters.open = !filters.open;
      filters.querySelector(filters.open ? "select" : "summary").focus();
    },
  };

  live.addEventListener("click", (event) => {
    const row = event.target.closest("#rows tr");
    if (!row || event.target.closest("a, button, input") || !getSelection().isCollapsed) return;
    row.querySelector("a.open").click();
  });

  above.addEventListener("click", () => { window.scrollTo({ top: 0 }); unseen.clear(); tellAbove(); });
  window.addEventListener("scroll", () => { if (unseen.size) tellAbove(); }, { passive: true });
  function remember() {
    const asked = new URLSearchParams(location.search);
    for (const name of ["read", "none"]) asked.delete(name);
    sessionStorage.setItem("list", String(asked));
  }
  remember();
  watchClaims();
  if (location.hash === "#q") document.getElementById("q").focus();
  setInterval(tick, 5000);
  setInterval(ask, REFRESH_ANYWAY_MS);
  listen();
})();
