// One step of the reader is one entry of the browser's history, and Back returns to where it stood.
//
// Streamlit writes an entry for every parameter and once more for the page. Here the first change of
// the address after a press of the mouse or a key makes an entry; those that follow from it change
// that entry. A page that only completes its own address, which nobody asked for, makes none.

const PATIENCE = 4000; // milliseconds in which a page that comes back has grown to its old height

function watch() {
  const write = { push: history.pushState, replace: history.replaceState };
  const positions = new Map();
  const scroller = () => document.querySelector("[data-testid=stMain]");
  let entry = history.state?.entry ?? 0;
  let stepping = false;
  let returning = null;

  function remember() {
    positions.set(entry, scroller()?.scrollTop ?? 0);
  }

  function stay() {
    clearInterval(returning);
  }

  function returnTo(top) {
    stay();
    const end = Date.now() + PATIENCE;
    returning = setInterval(() => {
      scroller()?.scrollTo(0, top);
      if (Date.now() > end) stay();
    }, 100);
  }

  function change(address) {
    const next = new URL(address, location.href).href;
    if (next === location.href) return;
    if (stepping) {
      remember();
      entry = Date.now();
      write.push.call(history, { entry }, "", next);
    } else {
      write.replace.call(history, { entry }, "", next);
    }
    stepping = false;
  }

  history.pushState = (state, title, address) => change(address);
  history.replaceState = (state, title, address) => change(address);
  for (const press of ["pointerdown", "keydown"])
    addEventListener(press, () => ((stepping = true), stay()), true);
  addEventListener("wheel", stay, { capture: true, passive: true });
  addEventListener("popstate", (event) => {
    stepping = false;
    // Without a state the reader followed a link to a place on this page.
    if (!event.state || event.state.redirected) return;
    remember();
    entry = event.state.entry;
    returnTo(positions.get(entry) ?? 0);
  });
  write.replace.call(history, { entry }, "", location.href);
}

// Another address in place of this one: Streamlit reads it as it reads one that Back leads to.
function redirect(address) {
  if (address === location.href) return;
  history.replaceState({}, "", address);
  dispatchEvent(new PopStateEvent("popstate", { state: { redirected: true } }));
}

export default function ({ data }) {
  if (!window.opdvizHistory) {
    window.opdvizHistory = true;
    watch();
  }
  if (data.redirect) redirect(data.redirect);
}
