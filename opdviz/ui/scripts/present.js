// A presentation: keys go from pin to pin whatever has the focus, and the figure fits the window.

const SLACK = 12; // pixels that a figure may be off before it is drawn anew
const AFTER = [120, 500, 1200]; // milliseconds in which a page is drawn
let listening = null;
let fitting = null;

function target(key, { at, total }) {
  const places = {
    ArrowLeft: at - 1, PageUp: at - 1, ArrowRight: at + 1, PageDown: at + 1, Home: 1, End: total,
  };
  return places[key] && Math.min(Math.max(places[key], 1), total);
}

// By the address, which a key changes at once: what is drawn follows, and may be that of before.
function here(data) {
  return Number(new URL(location.href).searchParams.get("present")) || data.at;
}

// Streamlit reads the new address as it reads one that Back leads to.
function goTo(pin) {
  const address = new URL(location.href);
  address.searchParams.set("present", pin);
  history.pushState({}, "", address);
  dispatchEvent(new PopStateEvent("popstate", { state: { redirected: true } }));
}

export default function ({ data, setStateValue }) {
  removeEventListener("keydown", listening, true);
  removeEventListener("resize", fitting);

  listening = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    if (event.key === "Escape") return location.assign(data.leave);
    const at = here(data);
    const to = target(event.key, { at, total: data.total });
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    if (to !== at) goTo(to);
  };

  fitting = () => {
    const figure = document.querySelector("[data-testid=stPlotlyChart]");
    const foot = document.querySelector(".st-key-present_foot");
    if (!figure || !foot) return;
    const below = foot.getBoundingClientRect().height + 0.05 * innerHeight;
    const room = Math.round(innerHeight - figure.getBoundingClientRect().top - below);
    if (Math.abs(room - data.room) > SLACK || innerHeight !== data.window)
      setStateValue("screen", { room, window: innerHeight });
  };

  addEventListener("keydown", listening, true);
  addEventListener("resize", fitting);
  const waiting = AFTER.map((delay) => setTimeout(fitting, delay));
  return () => {
    removeEventListener("keydown", listening, true);
    removeEventListener("resize", fitting);
    waiting.forEach(clearTimeout);
  };
}
