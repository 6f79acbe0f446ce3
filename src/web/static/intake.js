// Renews the page without loading it again, unless somebody is in the middle of it.
"use strict";
(() => {
  const seconds = Number(document.currentScript.dataset.seconds);
  const content = document.getElementById("content");
  async function renew() {
    const inUse = content.contains(document.activeElement) || !getSelection().isCollapsed;
    if (document.hidden || inUse) return;
    try {
      // a page that asks by itself keeps nobody signed in
      const response = await fetch(`${location.pathname}?fragment=1`, { credentials: "same-origin", cache: "no-store" });
      if (response.status === 401) location.reload();
      if (!response.ok) return;
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("content");
      if (fresh && !content.isEqualNode(fresh)) content.replaceChildren(...document.adoptNode(fresh).childNodes);
    } catch {
      // the next time asks again
    }
  }
  setInterval(renew, seconds * 1000);
})();
