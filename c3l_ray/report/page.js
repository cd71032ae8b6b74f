"use strict";
(() => {
  const form = document.getElementById("filters");
  const list = document.getElementById("turn-list");
  if (!form || !list) return;
  const cards = Array.from(list.querySelectorAll("article.turn"));
  const normalize = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  const texts = new Map(cards.map((card) => [card, normalize(card.textContent)]));
  const shown = document.getElementById("num-shown");
  const nothing = document.getElementById("nothing-shown");
  const names = ["run", "group", "kind", "status"];

  function number(name) {
    const text = form.elements[name].value.trim();
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
  }

  function apply() {
    const low = number("low");
    const high = number("high");
    const text = normalize(form.elements.text.value);
    let count = 0;
    for (const card of cards) {
      const score = card.dataset.score === "" ? null : Number(card.dataset.score);
      const fits =
        names.every((name) => {
          const field = form.elements[name];
          return !field || field.value === "" || field.value === card.dataset[name];
        }) &&
        (low === null || (score !== null && score >= low)) &&
        (high === null || (score !== null && score <= high)) &&
        texts.get(card).includes(text);
      card.hidden = !fits;
      count += fits;
    }
    for (const section of list.querySelectorAll("section.group")) {
      section.hidden = !section.querySelector("article.turn:not([hidden])");
    }
    shown.textContent = count.toLocaleString("en");
    nothing.hidden = count > 0;
  }

  function follow() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.matches("article.turn")) return;
    if (target.hidden) {
      form.reset();
      apply();
    }
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  window.addEventListener("hashchange", follow);
  form.hidden = false;
  apply();
  follow();
})();
