// An image with its boxes, in the image's own pixels. Dragging draws a new box for the object in question, dragging one
// of its corners moves that corner. Texts and links are bound by Vue, which escapes them.
export default {
  template: `
    <svg ref="svg" class="review-image" :viewBox="view.join(' ')" @pointerdown="down" @pointermove="move" @pointerup="up"
         @pointercancel="draft = null; start = null">
      <image :href="src" x="0" y="0" :width="width" :height="height" preserveAspectRatio="none"
             @load="failed = false" @error="failed = true" />
      <text v-if="failed" :x="width / 2" :y="height / 2" :font-size="18 * unit" class="review-failed">
        The image cannot be shown: {{ file }}
      </text>
      <rect v-for="other in others" v-bind="rect(other)" class="review-other" />
      <g v-if="shown">
        <rect v-bind="rect(shown)" class="review-halo" />
        <rect v-bind="rect(shown)" class="review-box" :class="{ rejected }" />
        <circle v-for="corner in corners(shown)" :cx="corner[0]" :cy="corner[1]" :r="5 * unit" class="review-corner" />
      </g>
    </svg>`,
  props: {
    src: String,
    file: String,
    width: Number,
    height: Number,
    box: Array, // of the object in question, [x1, y1, x2, y2]
    others: Array, // of the others
    rejected: Boolean,
    zoom: Boolean,
  },
  data: () => ({ draft: null, start: null, failed: false, unit: 1 }),
  computed: {
    shown() {
      return this.draft || this.box;
    },
    view() {
      if (!this.zoom || !this.box) return [0, 0, this.width, this.height];
      const [x1, y1, x2, y2] = this.box;
      const side = Math.min(Math.max(3 * Math.max(x2 - x1, y2 - y1), 64), Math.max(this.width, this.height));
      return [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side, side];
    },
  },
  watch: {
    box() {
      this.draft = null; // the server has answered
    },
    view() {
      this.$nextTick(this.measure);
    },
  },
  mounted() {
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(this.$refs.svg);
  },
  unmounted() {
    this.observer.disconnect();
  },
  methods: {
    measure() {
      const matrix = this.$refs.svg.getScreenCTM();
      if (matrix && matrix.a > 0) this.unit = 1 / matrix.a; // image pixels per screen pixel
    },
    rect([x1, y1, x2, y2]) {
      return { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) };
    },
    corners([x1, y1, x2, y2]) {
      return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]; // the one two places on lies opposite
    },
    place(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.$refs.svg.getScreenCTM().inverse());
      return [Math.min(Math.max(at.x, 0), this.width), Math.min(Math.max(at.y, 0), this.height)];
    },
    down(event) {
      if (event.button !== 0) return;
      const at = this.place(event);
      const points = this.box ? this.corners(this.box) : [];
      const near = points.findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) < 9 * this.unit);
      this.start = near < 0 ? at : points[(near + 2) % 4];
      this.pressed = at;
      this.$refs.svg.setPointerCapture(event.pointerId);
    },
    move(event) {
      if (!this.start) return;
      const at = this.place(event);
      if (!this.draft && Math.hypot(at[0] - this.pressed[0], at[1] - this.pressed[1]) < 4 * this.unit) return;
      const [x, y] = this.start;
      this.draft = [Math.min(x, at[0]), Math.min(y, at[1]), Math.max(x, at[0]), Math.max(y, at[1])];
    },
    up() {
      this.start = null;
      if (!this.draft) return;
      const [x1, y1, x2, y2] = this.draft;
      if (x2 - x1 < 1 || y2 - y1 < 1) this.draft = null; // a slip
      else this.$emit("change", this.draft.map((v) => Math.round(v * 10) / 10));
    },
    reset() {
      this.draft = null;
    },
  },
};
