// Saves the figure above as it stands, in the layout for paper that came with it.

const XMLNS = "http://www.w3.org/2000/svg";
const DPI = 300;
const FAMILY = "Source Sans";

// What `look` has of its own goes over what the figure's trace has.
function dressed(trace, look) {
  const over = { ...trace };
  for (const [key, value] of Object.entries(look))
    over[key] = value && typeof value === "object" ? dressed(trace[key] ?? {}, value) : value;
  return over;
}

// The font of the page, to lie in the file: elsewhere it is not installed.
async function fontFace() {
  const rules = [...document.styleSheets].flatMap((sheet) => {
    try {
      return [...sheet.cssRules];
    } catch {
      return []; // of another origin
    }
  });
  const face = rules.find(
    (rule) =>
      rule instanceof CSSFontFaceRule &&
      rule.style.getPropertyValue("font-family").replace(/["']/g, "") === FAMILY &&
      rule.style.getPropertyValue("font-style") !== "italic",
  );
  const address = face?.style.getPropertyValue("src").match(/url\(["']?([^"')]+)/)?.[1];
  if (!address) return "";
  const base = face.parentStyleSheet.href ?? document.baseURI;
  const answer = await fetch(new URL(address, base));
  if (!answer.ok) return "";
  const blob = await answer.blob();
  const data = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(blob);
  });
  return `@font-face{font-family:"${FAMILY}";font-weight:200 900;src:url(${data}) format("woff2")}`;
}

async function svgOf({ figure, layout, looks, inches }, background) {
  const shown = document.querySelector(`.st-key-${figure} .js-plotly-plot`);
  const data = shown.data.map((trace, at) => {
    const { selectedpoints, ...rest } = trace; // what was clicked on is not faded around
    return dressed(rest, looks[at] ?? {});
  });
  const address = await window.Plotly.toImage(
    { data, layout: { ...layout, paper_bgcolor: background }, config: { staticPlot: true } },
    { format: "svg", width: layout.width, height: layout.height },
  );
  const text = decodeURIComponent(address.slice(address.indexOf(",") + 1));
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const high = (inches * layout.height) / layout.width;
  svg.setAttribute("viewBox", `0 0 ${layout.width} ${layout.height}`);
  svg.setAttribute("width", `${inches}in`);
  svg.setAttribute("height", `${high.toFixed(3)}in`);
  const style = document.createElementNS(XMLNS, "style");
  style.textContent = await fontFace();
  svg.prepend(style);
  return new XMLSerializer().serializeToString(svg);
}

async function pngOf(svg, { layout }) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = document.createElement("canvas");
  const scale = DPI / 96;
  canvas.width = Math.round(layout.width * scale);
  canvas.height = Math.round(layout.height * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  const status = parentElement.querySelector("[role=status]");
  const ground = data.transparent ? ", transparent" : "";
  button.title = `${data.format.toUpperCase()}, ${data.inches} in${ground}`;
  button.onclick = async () => {
    const background = data.transparent ? "rgba(0,0,0,0)" : "#ffffff";
    button.disabled = true;
    status.textContent = "";
    try {
      const svg = await svgOf(data, background);
      const svgBlob = new Blob([svg], { type: "image/svg+xml" });
      const blob = data.format === "png" ? await pngOf(svg, data) : svgBlob;
      download(blob, `${data.stem}.${data.format}`);
    } catch (error) {
      status.textContent = `It could not be drawn: ${error.message}`;
    }
    button.disabled = false;
  };
}
