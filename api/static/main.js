import { startActions } from "./actions.js";
import { startFigures } from "./figures.js";
import { startForm } from "./form.js";
import { startLive } from "./live.js";
import { startPictures } from "./pictures.js";
import { startTable } from "./table.js";
import { startTabs } from "./tabs.js";
import { showTimes } from "./times.js";

showTimes(document);
startActions();
startTabs();
startTable();
startFigures();
startPictures();
startForm();
startLive();
