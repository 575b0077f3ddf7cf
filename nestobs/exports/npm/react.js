// useNestJoin: a join as the state of a React component. It ends with the component, or with another room.

"use client"; // where servers render components, too, this one is the page's

import { useCallback, useEffect, useRef, useState } from "react";

import { join } from "./join.js";
import { labels, toast } from "./wording.js";

const IDLE = Object.freeze({
  phase: "idle",
  again: false,
  message: "",
  wait: null,
  seat: null,
  verdict: null,
  attempts: Object.freeze([]),
  error: null,
});

/** See react.d.ts. */
export function useNestJoin(options) {
  const { api, room, sign = null } = options;
  const latest = useRef(options);
  const running = useRef(null);
  const [view, setView] = useState(IDLE);

  useEffect(() => {
    latest.current = options;
  });
  const stop = useCallback(() => {
    running.current?.abort();
    running.current = null;
    setView(IDLE);
  }, []);
  useEffect(() => stop, [api, room, stop]);

  const start = useCallback(async () => {
    running.current?.abort();
    const controller = new AbortController();
    const { signal } = controller;
    running.current = controller;
    setView((before) => ({ ...IDLE, phase: "joining", again: before.phase === "failed" }));
    const onEvent = (event) => {
      setView((before) => after(before, event));
      latest.current.onEvent?.(event);
    };
    try {
      return await join({ ...latest.current, signal, onEvent });
    } catch (error) {
      if (!signal.aborted) setView((before) => ({ ...before, phase: "failed", error, wait: null }));
      return null;
    }
  }, []);

  const button = buttonOf(view, sign !== null);
  const press = () => {
    if (button === null || button.disabled) return;
    if (button.does === "restart") latest.current.onRestart?.();
    else start();
  };
  const { again, ...shown } = view;
  return { ...shown, toast: view.seat?.kind === "guest_instead" ? toast : null, button, press, start, stop };
}

function after(view, event) {
  switch (event.type) {
    case "attempt":
      return { ...view, attempts: [...view.attempts, event], wait: null };
    case "wait":
      if (view.seat !== null) return { ...view, wait: event };
      return { ...view, again: true, message: event.message, wait: event };
    case "seat":
      return { ...view, phase: "joined", message: event.message, seat: event, wait: null };
    default: {
      const { verdict } = event;
      return { ...view, phase: verdict.joined ? "joined" : "failed", message: verdict.message, verdict, wait: null };
    }
  }
}

function buttonOf({ phase, again, verdict }, signedIn) {
  const first = signedIn ? labels.join : labels.joinAsGuest;
  if (phase === "joined") return null;
  if (phase === "joining") return { does: "join", label: again ? labels.retrying : first, disabled: true };
  if (phase === "idle" || verdict === null) return { does: "join", label: first, disabled: false };
  if (verdict.restartOffered) return { does: "restart", label: labels.restart, disabled: false };
  return verdict.retryOffered ? { does: "retry", label: labels.retry, disabled: false } : null;
}
