// The list of photographs, which grows as it is scrolled: thousands at once would take long.

const STEP_SIZE = 30; // entries
const AHEAD = "1500px"; // below the window, where the next ones are made

export class List {
  // `more` is the button below the list, for those who do not scroll. `make(record)` makes an element.
  constructor(list, more, make) {
    Object.assign(this, { list, more, make });
    this.records = [];
    this.watch = new IntersectionObserver(([seen]) => seen.isIntersecting && this.grow(), { rootMargin: AHEAD });
    more.addEventListener("click", () => {
      const before = this.list.childElementCount;
      this.grow();
      this.list.children[before]?.querySelector("h2").focus();
    });
  }

  show(records) {
    this.records = records;
    this.list.replaceChildren();
    this.grow();
  }

  grow() {
    const from = this.list.childElementCount;
    this.list.append(...this.records.slice(from, from + STEP_SIZE).map(this.make));
    this.more.hidden = this.list.childElementCount === this.records.length;
    this.watch.unobserve(this.more); // watched anew it tells again, should it still be near
    if (!this.more.hidden) this.watch.observe(this.more);
  }
}
