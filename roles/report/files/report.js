// SPDX-License-Identifier: GPL-3.0-or-later
// SPDX-FileCopyrightText: The vgpu.kvm authors
// Filters and sorts the hosts, and sets the theme. The page contains all data and is readable without this script.
(() => {
  "use strict";
  const root = document.documentElement;
  const one = (selector) => document.querySelector(selector);
  const main = one("main");
  const none = one("#none");
  const search = one("#search");
  const hosts = [...document.querySelectorAll(".host")];
  root.classList.add("scripted");

  // --- The theme is the system's, unless the reader chose another one. The choice is stored if the browser allows storage.
  const themes = ["system", "light", "dark"];
  const setTheme = (name) => {
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
    one("#theme span").textContent = name;
  };
  const kept = () => {
    try { return localStorage.getItem("vgpu-report-theme"); } catch { return null; }
  };
  setTheme(themes.includes(kept()) ? kept() : "system");
  one("#theme").addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    setTheme(next);
    try { localStorage.setItem("vgpu-report-theme", next); } catch { /* The browser does not store the choice. */ }
  });

  // --- Shows the age of the page.
  const tellAge = () => {
    const minutes = Math.floor((Date.now() - Date.parse(one("#time").dateTime)) / 60000);
    if (!(minutes >= 0)) return;
    const [amount, unit] = minutes < 120 ? [minutes, "minute"] : minutes < 2880 ? [Math.floor(minutes / 60), "hour"] : [Math.floor(minutes / 1440), "day"];
    one("#age").textContent = minutes ? `, ${amount} ${unit}${amount === 1 ? "" : "s"} ago` : ", just now";
    one("#age").classList.toggle("old", minutes >= 1440);
  };
  tellAge();
  setInterval(tellAge, 60000);

  // --- Filters the hosts.
  const shows = {
    all: () => true,
    problems: (host) => ["error", "warning", "unread"].includes(host.dataset.state),
    unreachable: (host) => host.dataset.state === "unreachable",
  };
  const texts = new Map();
  const textOf = (host) => {
    if (!texts.has(host)) texts.set(host, host.textContent.toLowerCase());
    return texts.get(host);
  };
  const chosenCode = () => one('.code[aria-pressed="true"]')?.dataset.code;
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = shows[one('[name="show"]:checked').value];
    const code = chosenCode();
    let count = 0;
    for (const host of hosts) {
      const hit = fits(host) && (!code || host.dataset.codes.split(" ").includes(code)) && words.every((word) => textOf(host).includes(word));
      host.hidden = !hit;
      count += hit;
    }
    none.hidden = count > 0;
    one("#shown").textContent = count === hosts.length ? `${count} host${count === 1 ? "" : "s"}` : `${count} of ${hosts.length} hosts`;
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(show);
  });
  for (const radio of document.querySelectorAll('[name="show"]')) radio.addEventListener("change", show);
  for (const button of document.querySelectorAll(".code")) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "true";
      for (const each of document.querySelectorAll(".code")) each.setAttribute("aria-pressed", String(each === button && !pressed));
      show();
    });
  }
  one(".tools").addEventListener("submit", (event) => event.preventDefault());

  // --- Sorts the hosts.
  const number = (host, name) => Number(host.dataset[name]);
  const states = ["error", "unread", "unreachable", "warning", "ok"];
  const orders = {
    state: (a, b) => states.indexOf(a.dataset.state) - states.indexOf(b.dataset.state),
    name: () => 0,
    free: (a, b) => number(b, "free") - number(a, "free"),
    used: (a, b) => number(b, "used") - number(a, "used"),
    vgpus: (a, b) => number(b, "vgpus") - number(a, "vgpus"),
  };
  const sort = () => {
    const order = orders[one("#sort").value];
    hosts.sort((a, b) => order(a, b) || number(a, "name") - number(b, "name"));
    main.append(...hosts, none);
  };
  one("#sort").addEventListener("change", sort);

  // --- Shows the bars as lists, and the details of the segment under the pointer.
  main.addEventListener("click", (event) => {
    const button = event.target.closest(".list");
    if (!button) return;
    const listed = button.closest(".host").classList.toggle("listed");
    button.setAttribute("aria-expanded", String(listed));
    button.textContent = listed ? "Show bars" : "List vGPUs";
  });
  main.addEventListener("pointerover", (event) => {
    const part = event.target.closest(".bar li");
    if (part && !part.title) part.title = part.textContent;
  });

  // --- Keyboard: / starts a search, and Escape clears the search.
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input[type=search], select")) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      show();
    }
  });

  // When the reader returns to the page, the browser restores the search text and the filters, so the script applies them again.
  if (one("#sort").value !== "state") sort();
  show();
  new IntersectionObserver(([entry]) => one(".tools").classList.toggle("stuck", !entry.isIntersecting)).observe(one(".top"));
})();
