"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // One look per frame, however fast somebody types.
  const soon = (work) => {
    let asked = 0;
    return () => {
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(work);
    };
  };

  const strata = () => {
    const table = byId("strata-table");
    if (!table) return;
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const filter = byId("strata-filter");
    const boxes = [...document.querySelectorAll("input[name=verdict]")];

    const show = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      let shown = 0;
      for (const row of rows) {
        const fits = wanted.has(row.dataset.verdict) && words.every((word) => texts.get(row).includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      byId("strata-shown").textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
    };

    const value = (row, place) => {
      const cell = row.cells[place];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };

    const sort = (button) => {
      const place = Number(button.dataset.sort);
      const header = button.parentElement;
      const up = header.getAttribute("aria-sort") !== "ascending";
      for (const each of table.tHead.rows[0].cells) each.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const known = rows.map((row, number) => [value(row, place), number, row]);
      known.sort(([a, i], [b, j]) => {
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
        return (up ? order : -order) || i - j;
      });
      body.append(...known.map(([, , row]) => row));
    };

    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-sort]");
      if (button) sort(button);
    });
    filter.addEventListener("input", soon(show));
    for (const box of boxes) box.addEventListener("change", show);
    byId("strata-controls").addEventListener("submit", (event) => event.preventDefault());
    show();
  };

  const differences = () => {
    const filter = byId("differences-filter");
    if (!filter) return;
    const all = [...document.querySelectorAll("details.difference")];
    const groups = [...document.querySelectorAll("section.group")];
    const texts = new Map(all.map((each) => [each, each.textContent.toLowerCase()]));
    const titles = new Map(groups.map((each) => [each, each.querySelector("h3").textContent.toLowerCase()]));
    const covered = byId("differences-covered");

    const show = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const group of groups) {
        let any = false;
        for (const each of group.querySelectorAll("details.difference")) {
          const fits =
            (covered.checked || each.dataset.covered === undefined) &&
            words.every((word) => texts.get(each).includes(word) || titles.get(group).includes(word));
          each.hidden = !fits;
          shown += fits;
          any ||= fits;
        }
        group.hidden = !any;
      }
      byId("differences-shown").textContent =
        `${shown.toLocaleString("en")} of ${all.length.toLocaleString("en")} shown`;
    };

    filter.addEventListener("input", soon(show));
    covered.addEventListener("change", show);
    byId("differences-open").addEventListener("click", () => {
      for (const each of all) each.open = !each.hidden;
    });
    byId("differences-controls").addEventListener("submit", (event) => event.preventDefault());
    show();
  };

  // A link to something closed or filtered away opens it, and the keyboard goes on from there.
  const arrive = () => {
    const target = location.hash.length > 1 && byId(location.hash.slice(1));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) {
      each.hidden = false;
      if (each.tagName === "DETAILS") each.open = true;
    }
    for (const each of target.matches("section.group") ? target.querySelectorAll("details") : []) each.hidden = false;
    (target.matches("details") ? target.querySelector("summary") : target).focus({ preventScroll: true });
    target.scrollIntoView();
  };

  const printing = () => {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("details.difference:not([open]):not([hidden])")];
      for (const each of opened) each.open = true;
    });
    addEventListener("afterprint", () => {
      for (const each of opened) each.open = false;
    });
  };

  strata();
  differences();
  printing();
  addEventListener("hashchange", arrive);
  arrive();
})();
