// Links the table of the app with the image: pointing at a row shows its box, pointing at a box shows its row.
() => {
  const mark = document.body.appendChild(document.createElement("div"));
  mark.id = "optisar-mark";
  let row = null;
  // Where the image [w, h] is on the screen; the drawing has the same width, and a legend below.
  const placed = () => {
    const image = document.querySelector("#image img"), said = document.querySelector("#status textarea");
    const size = said && said.value.match(/(\d+) x (\d+) pixels/);
    if (!image || !size || !image.naturalWidth) return null;
    const area = image.getBoundingClientRect();
    const shown = Math.min(area.width / image.naturalWidth, area.height / image.naturalHeight);
    return {
      left: area.left + (area.width - shown * image.naturalWidth) / 2,
      top: area.top + (area.height - shown * image.naturalHeight) / 2,
      scale: (shown * image.naturalWidth) / size[1],
    };
  };
  const boxOf = (one) => {
    const cell = one && one.querySelector('[data-col="3"]');
    const numbers = cell ? cell.textContent.trim().split(/\s+/).map(Number) : [];
    return numbers.length === 4 && numbers.every(Number.isFinite) ? numbers : null;
  };
  const show = (one) => {
    if (row) row.classList.remove("optisar-row-hit");
    row = one;
    const box = boxOf(one), at = box && placed();
    mark.style.display = at ? "block" : "none";
    if (!at) return;
    row.classList.add("optisar-row-hit");
    const [x1, y1, x2, y2] = box.map((v) => v * at.scale);
    Object.assign(mark.style, {
      left: `${at.left + x1}px`, top: `${at.top + y1}px`, width: `${x2 - x1}px`, height: `${y2 - y1}px`,
    });
  };
  document.addEventListener("mouseover", (event) => {
    const one = event.target.closest && event.target.closest("#table [role=row][data-index]");
    if (one) show(one);
    else if (row && !event.target.closest("#image")) show(null);
  });
  document.addEventListener("mousemove", (event) => {
    if (!event.target.closest || !event.target.closest("#image")) return;
    const at = placed();
    if (!at) return;
    const x = (event.clientX - at.left) / at.scale, y = (event.clientY - at.top) / at.scale;
    let best = null, least = Infinity;
    for (const one of document.querySelectorAll("#table [role=row][data-index]")) {
      const box = boxOf(one);
      if (!box || x < box[0] || x > box[2] || y < box[1] || y > box[3]) continue;
      const area = (box[2] - box[0]) * (box[3] - box[1]);
      if (area < least) [best, least] = [one, area];
    }
    show(best);
  });
  document.addEventListener("scroll", () => row && show(row), true); // the image has moved on the screen
}
