"use strict";
// The live tail: what the server sends is a row of the list, rendered there. Without this script the list is as it was
// when it was asked for.
(() => {
  const place = document.getElementById("live");
  const body = document.getElementById("rows");
  if (!place || !body || !("EventSource" in window)) return;
  const rowsMax = Number(place.dataset.rowsMax);
  const button = document.createElement("button");
  button.type = "button";
  const status = document.createElement("span");
  place.before(button, " ");
  place.append(status);
  let source = null;
  let after = "";
  let arrived = 0;

  const say = (text) => { status.textContent = text; };
  const label = () => {
    button.textContent = source ? "Pause live updates" : "Resume live updates";
    button.setAttribute("aria-pressed", source ? "true" : "false");
  };

  const add = (event) => {
    const parsed = new DOMParser().parseFromString(`<table>${JSON.parse(event.data)}</table>`, "text/html");
    const row = parsed.querySelector("tr");
    if (event.lastEventId) after = event.lastEventId;
    if (!row || [...body.rows].some((each) => each.dataset.key === row.dataset.key)) return;
    row.classList.add("new");
    body.prepend(document.adoptNode(row));
    while (body.rows.length > rowsMax) body.deleteRow(-1);
    document.querySelector(".empty")?.remove();
    arrived += 1;
    say(`Live: ${arrived} new.`);
  };

  const start = () => {
    const address = new URL(place.dataset.href, location.href);
    if (after) address.searchParams.set("after", after);
    source = new EventSource(address);
    source.addEventListener("open", () => say(arrived ? `Live: ${arrived} new.` : "Live."));
    source.addEventListener("session", add);
    source.addEventListener("dropped", () => say("Live; more arrived than could be shown: reload for all."));
    source.addEventListener("error", () => {
      say(source && source.readyState === EventSource.CLOSED ? "Live updates were refused: reload later." : "Connecting …");
    });
    label();
  };
  const stop = () => {
    source.close();
    source = null;
    say("Paused.");
    label();
  };
  button.addEventListener("click", () => { if (source) { stop(); } else { start(); } });
  window.addEventListener("pagehide", () => { if (source) source.close(); });
  start();
})();
