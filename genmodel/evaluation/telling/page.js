for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const x = Number(value(a)), y = Number(value(b));
      if (Number.isNaN(x) && Number.isNaN(y)) return value(a).localeCompare(value(b)) * (up ? 1 : -1);
      return Number.isNaN(x) - Number.isNaN(y) || (x - y) * (up ? 1 : -1);  // what is not a number stays last
    };
    body.append(...[...body.rows].sort(compare));
  }));
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => each.open = true));
