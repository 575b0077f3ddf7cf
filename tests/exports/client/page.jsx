// A page with the hook, as somebody writes it, and join() without it. `prepare` opens a nest; what is shown is kept.

import { StrictMode, useEffect } from "react";
import { createRoot } from "react-dom/client";

import { join } from "nest-join";
import { useNestJoin } from "nest-join/react";

const signed = async ({ url, method }) =>
  (await fetch(`/sign?url=${encodeURIComponent(url)}&method=${method}`)).text();

function Nest(props) {
  const nest = useNestJoin(props);
  const { button, message, press, toast } = nest;
  const label = button === null ? "" : `${button.label}${button.disabled ? " (disabled)" : ""}`;
  useEffect(() => {
    if (window.labels.at(-1) !== label) window.labels.push(label);
    window.nest = nest;
  });
  return (
    <main>
      <p role="status">{message}</p>
      {toast && <p role="alert">{`${toast.title}: ${toast.description}`}</p>}
      {button && <button disabled={button.disabled} onClick={press}>{button.label}</button>}
    </main>
  );
}

const root = createRoot(document.body.appendChild(document.createElement("div")));

async function opened({ api, guest = false, host = false }) {
  const nest = await (await fetch("/open")).json();
  return { api, ...nest, host, sign: guest ? null : signed };
}

window.labels = [];
window.restarted = 0;
window.prepare = async (words) => {
  const options = { ...(await opened(words)), onRestart: () => (window.restarted += 1) };
  window.render = (more) => root.render(<StrictMode><Nest {...options} {...more} /></StrictMode>);
  window.render({});
};
window.leave = () => root.render(null);
window.drive = async (words, { stopAt = "" } = {}) => {
  const controller = new AbortController();
  const events = [];
  const onEvent = (event) => {
    if (controller.signal.aborted) throw new Error("told after the end");
    events.push(event);
    if (event.type === stopAt) queueMicrotask(() => controller.abort(new Error("enough")));
  };
  window.stop = () => controller.abort(new Error("enough"));
  try {
    return { events, verdict: await join({ ...(await opened(words)), signal: controller.signal, onEvent }) };
  } catch (error) {
    return { events, error: error.message };
  }
};
