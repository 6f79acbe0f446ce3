// Tells whoever has the list open, and asked for it, of a study that became urgent or critical and
// that nobody has in hand. A notification stands on a locked screen: it says nothing about the patient.
"use strict";
(() => {
  const button = document.getElementById("notify");
  const rows = document.getElementById("rows");
  const KEY = "notify";
  const TOLD_MAX = 5000; // studies remembered; beyond it all are forgotten, and shown ones are known anew
  const LEVELS = { urgent: 1, critical: 2 };
  if (!button || !rows || !("Notification" in window)) return;
  // UID -> the highest level that was told, or was there when the page opened
  let told = new Map();

  function pressing() {
    return [...rows.rows].map((row) => {
      const chip = row.querySelector(".c-band .chip");
      const level = Object.keys(LEVELS).find((name) => chip?.classList.contains(name));
      return { row, level, word: chip?.textContent ?? "" };
    }).filter((found) => found.level);
  }

  const wanted = () => Notification.permission === "granted" && localStorage.getItem(KEY) === "on";

  function show() {
    button.hidden = Notification.permission === "denied";
    button.setAttribute("aria-pressed", String(wanted()));
    button.textContent = wanted() ? "Notifying" : "Notify me";
  }

  function look() {
    if (told.size > TOLD_MAX) told = new Map();
    for (const { row, level, word } of pressing()) {
      const uid = row.dataset.uid;
      if ((told.get(uid) ?? 0) >= LEVELS[level]) continue;
      told.set(uid, LEVELS[level]);
      if (wanted() && row.classList.contains("free")) tell(row, word);
    }
  }

  function tell(row, word) {
    const rank = row.querySelector(".c-rank").textContent.trim();
    const note = new Notification(`${word} study waits: place ${rank}, ${row.dataset.code}`, {
      body: document.querySelector(".research").textContent,
      tag: row.dataset.uid, // the same study replaces its own notification
      requireInteraction: word === "Critical",
    });
    note.onclick = () => { window.focus(); location.href = `/studies/${row.dataset.uid}`; note.close(); };
  }

  button.addEventListener("click", async () => {
    if (wanted()) localStorage.setItem(KEY, "off");
    else if (await Notification.requestPermission() === "granted") localStorage.setItem(KEY, "on");
    show();
  });

  for (const { row, level } of pressing()) told.set(row.dataset.uid, LEVELS[level]);
  new MutationObserver(look).observe(rows, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
  show();
})();
