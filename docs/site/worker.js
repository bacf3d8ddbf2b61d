// Pages opened from a folder may not start workers: the search then runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.scope = new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.hidden = true;
        document.body.append(frame);
        const scope = frame.contentWindow;
        const load = (source) =>
          new Promise((loaded) => {
            const script = scope.document.createElement("script");
            script.onload = loaded;
            script.src = new URL(source, new URL(url, location));
            scope.document.body.append(script);
          });
        scope.importScripts = (...sources) => Promise.all(sources.map(load));
        scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        load("").then(() => resolve(scope));
      });
    }

    postMessage(data) {
      this.scope.then((scope) => scope.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {}
  };
}
