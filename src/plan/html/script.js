"use strict";
for (const address of document.querySelectorAll(".address")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.setAttribute("aria-label", "copy " + address.textContent);
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(address);
    const copied = navigator.clipboard
      ? navigator.clipboard.writeText(address.textContent)
      : document.execCommand("copy") ? Promise.resolve() : Promise.reject();
    // Where a browser does not let the page copy, the address is selected.
    copied.then(() => { button.textContent = "copied"; }, () => { button.textContent = "Ctrl-C"; });
  });
  address.after(button);
}
