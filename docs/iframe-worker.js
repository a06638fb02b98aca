// The plugin "offline" of mkdocs-material looks for this name, and else fetches a script of others.
// Browsers start no worker for a page that was opened as a file. The search of the site needs one.
// Here its script runs in a hidden frame, which gets what a script expects of a worker.
if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.inside.postMessage = (data) => {
        this.dispatchEvent(new MessageEvent("message", { data }));
      };
      this.inside.importScripts = async (...urls) => {
        for (const part of urls) await this.load(part);
      };
      this.ready = this.load(url);
    }

    // Runs a script in the frame.
    load(url) {
      const page = this.inside.document;
      const script = page.createElement("script");
      script.src = url;
      const loaded = new Promise((done) => script.addEventListener("load", done));
      page.body.append(script);
      return loaded;
    }

    async postMessage(data) {
      await this.ready;
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }
  }

  window.Worker = FrameWorker;
  // The search's script looks for this name, and then waits for importScripts.
  window.IFrameWorker = FrameWorker;
}
