// A button that copies a text with one click, and says so.

const SAID = 2500; // milliseconds

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // A page that did not come from this machine or by HTTPS has no clipboard of its own.
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("not copied");
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  const status = parentElement.querySelector("[role=status]");
  const link = parentElement.querySelector("input");
  link.value = data.text;
  button.onclick = async () => {
    try {
      await copy(data.text);
      status.textContent = "Copied";
    } catch {
      status.textContent = "Copy it here:";
      link.hidden = false;
      link.select();
      return;
    }
    setTimeout(() => (status.textContent = ""), SAID);
  };
}
